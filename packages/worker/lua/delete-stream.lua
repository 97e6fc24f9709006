-- Deletes a data stream that has been worked through, if the caller owns it and nothing came after its last record.
-- Safe to send again.
--
-- KEYS  1 own heartbeat  2 locks  3 data stream
-- ARGV  1 client id  2 token  3 data stream name  4 LBS id  5 fence  6 id of the last record that was handled
-- Returns 'DELETED' (also if it was gone), 'NEWER' (records came later: nothing changed), 'SESSION_LOST', 'NOT_OWNED'
local heartbeat, locks, data = unpack(KEYS)
local client_id, token, stream, id, fence, position = unpack(ARGV)
--- @include own-record
--- @include entry-id

local record, problem = read_own_record(stream, id, fence)
if not record then
  return problem
end
local last = redis.call('XREVRANGE', data, '+', '-', 'COUNT', 1)[1]
if last and is_before(position, last[1]) then
  return 'NEWER'
end
redis.call('UNLINK', data)
return 'DELETED'
