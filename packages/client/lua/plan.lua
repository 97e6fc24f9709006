-- Stores and publishes the plan with which clients come to their shares.
-- Nothing moves before the same clients have been there for a while. A plan that cannot be followed, so that what there is
-- to move does not get less, is published ever more seldom.
--
-- KEYS  1 plan
-- ARGV  1 which clients there are  2 for how long they must have been the same (ms)  3 how many streams there are to move
--       4 the plan  5 how long it stands (ms)  6 channel  7 message that says that there is a plan  8 '1': in any case
--       9 how long ago the youngest of the clients has begun (ms)
-- Returns 0 if it was published, else how long to wait (ms).
local plan_key = KEYS[1]
local members, settle_ms, moves, plan, stands_ms, channel, message, is_forced, youngest_ms = unpack(ARGV)
local FIRST_PAUSE_MS, GREATEST_PAUSE_MS = 1000, 60000
--- @include clock
local now = tonumber(now_ms)
moves = tonumber(moves)

local function field(name)
  return redis.call('HGET', plan_key, name)
end

if field('members') ~= members then
  -- A client has come since the last look, or others may have gone: the first is known to the millisecond.
  local began = now - tonumber(youngest_ms)
  local is_new = began > math.max(tonumber(field('seen') or 0), now - tonumber(settle_ms))
  redis.call('DEL', plan_key)
  redis.call('HSET', plan_key, 'members', members, 'since', is_new and string.format('%.0f', began) or now_ms)
end
redis.call('HSET', plan_key, 'seen', now_ms)
redis.call('PEXPIRE', plan_key, stands_ms)
local settled_ms = now - tonumber(field('since'))
if settled_ms < tonumber(settle_ms) then
  return tonumber(settle_ms) - settled_ms
end
local before = tonumber(field('moves') or 0)
local times = tonumber(field('times') or 0)
local wait_ms = tonumber(field('next') or 0) - now
local is_progress = before == 0 or moves < before
if wait_ms > 0 and not is_progress and is_forced ~= '1' then
  return wait_ms
end
times = is_progress and 0 or times + 1
local pause_ms = math.min(FIRST_PAUSE_MS * 2 ^ math.min(times, 10), GREATEST_PAUSE_MS)
redis.call('HSET', plan_key, 'plan', plan, 'moves', moves, 'times', times, 'next', string.format('%.0f', now + pause_ms))
redis.pcall('PUBLISH', channel, message) -- only a hint: without permission to publish the plan is stored all the same
return 0
