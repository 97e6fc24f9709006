-- Frees data streams whose entry is not in the LBS any more and whose owner is dead or nobody.
--
-- KEYS  1 LBS  2 locks  3 checkpoints  4 prefix of the heartbeat keys  5.. the backlog of each stream
-- ARGV  1 group  2.. data stream names
-- Returns the names of the streams it freed.
local lbs, locks, checkpoints, heartbeat_prefix = unpack(KEYS, 1, 4)
local group = ARGV[1]
--- @include session
--- @include record
--- @include free-stream
local freed = {}
for i = 2, #ARGV do
  local stream = ARGV[i]
  local record = read_record(stream)
  if record and not record.err and not is_living(record.owner)
    and #redis.call('XRANGE', lbs, record.id, record.id) == 0
  then
    free_stream(stream, KEYS[3 + i])
    redis.call('XACK', lbs, group, record.id)
    freed[#freed + 1] = stream
  end
end
return freed
