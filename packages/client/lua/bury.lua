-- Moves entries that cannot be served to the dead letters, if they are pending under this session or a dead one.
-- Safe to send again: an entry that is not pending any more has been moved.
--
-- KEYS  1 LBS  2 own heartbeat  3 dead letters  4 prefix of the heartbeat keys
-- ARGV  1 group  2 client id  3 token  4 greatest number of dead letters, '': no limit  5.. LBS id, reason, error of each
-- Returns 'SESSION_LOST', or for each 'BURIED', 'GONE' (not pending, or not in the LBS) or 'LEFT' (another's);
-- only for the first of them once its budget of bytes is spent.
local lbs, heartbeat, dead, heartbeat_prefix = unpack(KEYS)
local group, client_id, token, dead_max_length = unpack(ARGV, 1, 4)
local consumer = client_id .. ':' .. token
--- @include session
--- @include entry
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
  local entry = find_entry(id)
  if entry then
    add_dead_letter(id, entry[2], reason, problem)
  end
  redis.call('XACK', lbs, group, id)
  redis.call('XDEL', lbs, id)
  return entry and 'BURIED' or 'GONE'
end

local answers = {}
for i = 1, (#ARGV - 4) / 3 do
  if is_spent() then
    break
  end
  answers[i] = bury(unpack(ARGV, 2 + 3 * i, 4 + 3 * i))
end
return answers
