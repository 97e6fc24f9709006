-- Moves entries that cannot be served to the dead letters, if they are pending under this session or a dead one.
-- Safe to send again: an entry that is not pending any more has been moved.
--
-- KEYS  1 LBS  2 own heartbeat  3 dead letters  4 prefix of the heartbeat keys
-- ARGV  1 group  2 client id  3 token  4.. LBS id, reason, error of each
-- Returns 'SESSION_LOST', or for each 'BURIED', 'GONE' (not pending, or not in the LBS) or 'LEFT' (another's).
local lbs, heartbeat, dead, heartbeat_prefix = unpack(KEYS)
local group, client_id, token = unpack(ARGV, 1, 3)
local consumer = client_id .. ':' .. token
--- @include session
--- @include dead-letter

if redis.call('GET', heartbeat) ~= token then
  return 'SESSION_LOST'
end

local function bury(id, reason, problem)
  local pending = redis.call('XPENDING', lbs, group, id, id, 1)[1]
  if not pending then
    return 'GONE'
  end
  if pending[2] ~= consumer and is_living(pending[2]) then
    return 'LEFT'
  end
  local entry = redis.call('XRANGE', lbs, id, id)[1]
  if entry then
    add_dead_letter(id, entry[2], reason, problem)
  end
  redis.call('XACK', lbs, group, id)
  redis.call('XDEL', lbs, id)
  return entry and 'BURIED' or 'GONE'
end

local answers = {}
for i = 1, (#ARGV - 3) / 3 do
  answers[i] = bury(unpack(ARGV, 1 + 3 * i, 3 + 3 * i))
end
return answers
