-- Frees data streams whose entry is not in the LBS any more and whose owner is dead or nobody.
--
-- KEYS  1 LBS  2 locks  3 checkpoints  4 prefix of the heartbeat keys  5.. the two keys of the backlog of each stream
-- ARGV  1 group  2.. data stream names
-- Returns for each 1 if it was freed, else 0; only for the first of them once its budget of bytes is spent.
local lbs, locks, checkpoints, heartbeat_prefix = unpack(KEYS, 1, 4)
local group = ARGV[1]
--- @include session
--- @include record
--- @include free-stream
--- @include entry

local function sweep(stream, waiting)
  local record = read_record(stream)
  if not record or record.err or is_living(record.owner) or find_entry(record.id) then
    return 0
  end
  free_stream(stream, waiting)
  redis.call('XACK', lbs, group, record.id)
  return 1
end

local answers = {}
for i = 1, #ARGV - 1 do
  if is_spent() then
    break
  end
  answers[i] = sweep(ARGV[1 + i], waiting_of(5, i))
end
return answers
