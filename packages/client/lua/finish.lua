-- Finishes data streams that the calling session owns: the entry is acknowledged and deleted, the stream freed.
-- Safe to send again: a record that is gone or has another fence while the session lives was finished by an earlier try.
--
-- KEYS  1 LBS  2 own heartbeat  3 locks  4 checkpoints  5.. the two keys of the backlog of each stream
-- ARGV  1 group  2 client id  3 token  4.. data stream name, LBS id, fence, '1' to keep the checkpoint, of each
-- Returns for each 'OK', 'SESSION_LOST' or 'NOT_OWNED'; after the last two nothing has changed. Only for the first of them
-- once its budget of bytes is spent.
local lbs, heartbeat, locks, checkpoints = unpack(KEYS, 1, 4)
local group, client_id, token = unpack(ARGV, 1, 3)
local consumer = client_id .. ':' .. token
--- @include record
--- @include free-stream
--- @include write-again

local is_alive = redis.call('GET', heartbeat) == token

local function finish(stream, id, fence, keep_checkpoint, waiting)
  if not is_alive then
    return 'SESSION_LOST'
  end
  local record = read_record(stream)
  if record and record.err then
    return record
  end
  if not record or record.fence ~= fence then
    write_again()
    return 'OK'
  end
  if record.id ~= id or record.owner ~= consumer then
    return 'NOT_OWNED'
  end
  free_stream(stream, waiting, keep_checkpoint)
  redis.call('XACK', lbs, group, id)
  redis.call('XDEL', lbs, id)
  return 'OK'
end

local answers = {}
for i = 1, (#ARGV - 3) / 4 do
  if is_spent() then
    break
  end
  local stream, id, fence, keep = unpack(ARGV, 4 * i, 4 * i + 3)
  local answer = finish(stream, id, fence, keep == '1', waiting_of(5, i))
  if type(answer) == 'table' then
    return answer
  end
  answers[i] = answer
end
return answers
