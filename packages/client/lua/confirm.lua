-- Compares what a client believes it owns with what Redis says.
--
-- KEYS  1 LBS  2 own heartbeat  3 locks
-- ARGV  1 group  2 client id  3 token  4.. data stream name, LBS id, fence of each
-- Returns 'SESSION_LOST', or for each
--   'OURS'  the record agrees; an entry pending under another consumer has been taken back
--   'LOST'  the record is another's or gone
--   'GONE'  ours, but its entry is not in the LBS any more. Nothing has changed: were the stream freed here, another
--           client could have it before its owner has heard of it
-- Only for the first of them once its budget of bytes is spent.
local lbs, heartbeat, locks = unpack(KEYS)
local group, client_id, token = unpack(ARGV, 1, 3)
local consumer = client_id .. ':' .. token
--- @include record
--- @include entry

if redis.call('GET', heartbeat) ~= token then
  return 'SESSION_LOST'
end

local function confirm(stream, id, fence)
  local record = read_record(stream)
  if record and record.err then
    return record
  end
  if not record or record.id ~= id or record.fence ~= fence or record.owner ~= consumer then
    return 'LOST'
  end
  if not find_entry(id) then
    return 'GONE'
  end
  local pending = redis.call('XPENDING', lbs, group, id, id, 1)[1]
  if pending and pending[2] ~= consumer then
    redis.call('XCLAIM', lbs, group, consumer, 0, id, 'JUSTID')
  end
  return 'OURS'
end

local answers = {}
for i = 1, (#ARGV - 3) / 3 do
  if is_spent() then
    break
  end
  local stream, id, fence = unpack(ARGV, 1 + 3 * i, 3 + 3 * i)
  local answer = confirm(stream, id, fence)
  if type(answer) == 'table' then
    return answer
  end
  answers[i] = answer
end
return answers
