-- Whether the caller may act as the owner of a data stream.
-- Needs: heartbeat, locks, client_id, token. Returns the lock record, or nil and 'SESSION_LOST' or 'NOT_OWNED'.
--- @include record
local function read_own_record(stream, id, fence)
  if redis.call('GET', heartbeat) ~= token then
    return nil, 'SESSION_LOST'
  end
  local record = read_record(stream)
  if not record or record.err or record.id ~= id or record.fence ~= fence
    or record.owner ~= client_id .. ':' .. token
  then
    return nil, 'NOT_OWNED'
  end
  return record
end
