-- Gives data streams back unfinished: the record becomes reserved for its entry, which stays pending.
-- Safe to send again: a record that is reserved, gone or of another fence while the session lives was released
-- by an earlier try.
--
-- KEYS  1 own heartbeat  2 locks
-- ARGV  1 client id  2 token  3 channel to offer them on, or ''  4 message  5.. data stream name, LBS id, fence of each
-- Returns for each 'OK', 'SESSION_LOST' or 'NOT_OWNED'; after the last two nothing has changed.
local heartbeat, locks = unpack(KEYS)
local client_id, token, channel, message = unpack(ARGV, 1, 4)
local consumer = client_id .. ':' .. token
--- @include record
--- @include write-again

local is_alive = redis.call('GET', heartbeat) == token

local function release(stream, id, fence)
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
  return 'OK'
end

local answers = {}
for i = 1, (#ARGV - 4) / 3 do
  local answer = release(unpack(ARGV, 2 + 3 * i, 4 + 3 * i))
  if type(answer) == 'table' then
    return answer
  end
  answers[i] = answer
end
if channel ~= '' and is_alive then
  redis.pcall('PUBLISH', channel, message) -- a hint: who may not publish has released all the same
end
return answers
