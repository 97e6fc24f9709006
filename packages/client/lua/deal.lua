-- Deals entries that wait for an owner: those pending under a dead consumer or in the pool. Each goes to one caller.
-- 'take': they become pending under the caller's session, as if it had read them, and it takes them next.
-- 'tell': the caller tells its application of them. They wait under a name that says so, see includes/waiting.lua, and
--         if nobody has claimed them by then they are dealt again: to others first, and ever more seldom.
-- Entries that have left the LBS are acknowledged. A consumer that is empty afterwards is removed from the group.
--
-- KEYS  1 LBS  2 own heartbeat  3 prefix of the heartbeat keys
-- ARGV  1 group  2 client id  3 token  4 consumer they are pending under  5 how many at most  6 'take' or 'tell'
--       7 only entries idle for so long (ms)
--       8 tell: how long the caller's application has before the others are told (ms)
--       9 tell: how long it takes until the caller may be dealt them again (ms)  10 tell: greatest of both (ms)
-- Returns 'SESSION_LOST', or {1 if there may be more, ms until the caller may have any, entries that were gone,
--   {id, fields, how long it has waited under that consumer (ms)} ...}
local lbs, heartbeat, heartbeat_prefix = unpack(KEYS)
local group, client_id, token, from, count, mode, idle_ms = unpack(ARGV, 1, 7)
-- Entries looked at for each that is wanted where only idle ones are.
local WINDOW = 4
-- What nobody claims is told of so many times before the time for it doubles.
local TIMES_AS_LONG = 4
--- @include clock
--- @include session
--- @include waiting
--- @include entry
--- @include remove-consumer

if redis.call('GET', heartbeat) ~= token then
  return 'SESSION_LOST'
end
if is_living(from) then
  return { 0, 0, 0 }
end
local wait_ms, times = wait_of(from, client_id)
if wait_ms > 0 then
  return { 1, wait_ms, 0 }
end

local function name_for_told()
  local tell_ms, again_ms, greatest_ms = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
  local function after(ms)
    local wait = math.min(ms * 2 ^ math.min(math.floor(times / TIMES_AS_LONG), 30), greatest_ms)
    return round_up(tonumber(now_ms) + wait, math.max(1, wait))
  end
  return string.format('pool-%s:%s-%s-%d', client_id, after(tell_ms), after(again_ms), times + 1)
end

count, idle_ms = tonumber(count), tonumber(idle_ms)
local limit = idle_ms > 0 and count * WINDOW or count
local rows = redis.call('XPENDING', lbs, group, '-', '+', limit + 1, from)
if #rows == 0 then
  redis.call('XGROUP', 'DELCONSUMER', lbs, group, from) -- in most cases whoever took the last entry has done so
  return { 0, 0, 0 }
end
local dealt, ids, gone, is_full = {}, {}, 0, false
for _, row in ipairs(rows) do
  is_full = #ids == count or is_spent()
  if is_full then
    break
  end
  local entry = row[3] >= idle_ms and find_entry(row[1])
  if entry then
    dealt[#dealt + 1] = { entry[1], entry[2], row[3] }
    ids[#ids + 1] = row[1]
  elseif entry == nil then
    redis.call('XACK', lbs, group, row[1])
    gone = gone + 1
  end
end
if #ids > 0 then
  ids[#ids + 1] = 'JUSTID'
  redis.call('XCLAIM', lbs, group, mode == 'take' and client_id .. ':' .. token or name_for_told(), 0, unpack(ids))
end
local may_be_more = is_full or #rows > limit
if not may_be_more then
  remove_if_empty(from)
end
return { may_be_more and 1 or 0, 0, gone, unpack(dealt) }
