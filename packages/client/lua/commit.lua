-- Stores the checkpoints of data streams that the calling session owns. A stream that commits has not crashed.
-- Each commit has a number that grows with the calls of its owner, so that one sent twice over two connections
-- cannot undo a later one.
--
-- KEYS  1 own heartbeat  2 locks  3 checkpoints
-- ARGV  1 client id  2 token  3.. data stream name, LBS id, fence, number of the commit, checkpoint of each
-- Returns for each 'OK', 'SESSION_LOST' or 'NOT_OWNED'; after the last two nothing has changed.
local heartbeat, locks, checkpoints = unpack(KEYS)
local client_id, token = unpack(ARGV, 1, 2)
local consumer = client_id .. ':' .. token
--- @include record
--- @include write-again

local is_alive = redis.call('GET', heartbeat) == token

local function commit(stream, id, fence, number, checkpoint)
  if not is_alive then
    return 'SESSION_LOST'
  end
  local record = read_record(stream)
  if record and record.err then
    return record
  end
  if not record or record.id ~= id or record.fence ~= fence or record.owner ~= consumer then
    return 'NOT_OWNED'
  end
  if number > record.commits then
    redis.call('HSET', checkpoints, stream, checkpoint)
    record.crashes, record.commits = 0, number
    write_record(stream, record)
  else
    write_again()
  end
  return 'OK'
end

local answers = {}
for i = 1, (#ARGV - 2) / 5 do
  local stream, id, fence, number, checkpoint = unpack(ARGV, 5 * i - 2, 5 * i + 2)
  local answer = commit(stream, id, fence, tonumber(number), checkpoint)
  if type(answer) == 'table' then
    return answer
  end
  answers[i] = answer
end
return answers
