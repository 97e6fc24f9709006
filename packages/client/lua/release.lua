-- Gives data streams back unfinished: the record becomes reserved for its entry, which goes to the pool. A stream whose
-- entry has left the LBS is freed.
-- Safe to send again: a record that is reserved, gone or of another fence while the session lives was released
-- by an earlier try.
--
-- KEYS  1 own heartbeat  2 locks  3 LBS  4 level  5 checkpoints  6.. the two keys of the backlog of each stream
-- ARGV  1 client id  2 token  3 group  4 channel to tell the others on
--       5 the pool, or how long the caller itself is not to be given them again (ms)
--       6 the level and the number of living clients to tell, or '': those of the level key
--       7.. data stream name, LBS id, fence of each
-- Returns for each 'OK', 'SESSION_LOST' or 'NOT_OWNED'; after the last two nothing has changed.
local heartbeat, locks, lbs, level_key, checkpoints = unpack(KEYS, 1, 5)
local client_id, token, group, channel, pool_or_ms, level = unpack(ARGV, 1, 6)
local FIRST, FIRST_BACKLOG = 7, 6
local consumer = client_id .. ':' .. token
-- So often do names of the pool change while a client gives streams back.
local NAMES_AT_A_TIME = 4
--- @include clock
--- @include waiting
--- @include record
--- @include free-stream
--- @include entry
--- @include write-again
--- @include waiting-message

local is_alive = redis.call('GET', heartbeat) == token
local released, streams, backlogs = {}, {}, {}

local function release(waiting, stream, id, fence)
  if not is_alive then
    return 'SESSION_LOST'
  end
  local record = read_record(stream)
  if record and record.err then
    return record
  end
  if not record or record.fence ~= fence or record.owner == '' then
    write_again()
    return 'OK'
  end
  if record.id ~= id or record.owner ~= consumer then
    return 'NOT_OWNED'
  end
  record.owner, record.crashes = '', 0
  write_record(stream, record)
  released[#released + 1] = id
  streams[id], backlogs[id] = stream, waiting
  return 'OK'
end

local function pool_name()
  local ms = tonumber(pool_or_ms)
  if not ms then
    return pool_or_ms
  end
  local until_ms = round_up(tonumber(now_ms) + ms, math.ceil(ms / NAMES_AT_A_TIME))
  return string.format('pool-%s:0-%s-0', client_id, until_ms)
end

local answers = {}
for i = 1, (#ARGV - FIRST + 1) / 3 do
  local at = FIRST + 3 * (i - 1)
  local answer = release(waiting_of(FIRST_BACKLOG, i), unpack(ARGV, at, at + 2))
  if type(answer) == 'table' then
    return answer
  end
  answers[i] = answer
end
if #released > 0 then
  local pool = pool_name()
  table.insert(released, 'JUSTID')
  redis.call('XCLAIM', lbs, group, pool, 0, unpack(released))
  for id, stream in pairs(streams) do
    if not is_spent() and not find_entry(id) then
      free_stream(stream, backlogs[id])
      redis.call('XACK', lbs, group, id) -- before Redis 7 XCLAIM moves also what has left the LBS
    end
  end
  if level == '' then
    level = redis.call('GET', level_key) or ''
  end
  redis.pcall('PUBLISH', channel, waiting_message(pool, level)) -- only a hint: without permission to publish the streams are released all the same
end
return answers
