-- Assigns a data stream to the LBS, unless it is assigned already: owned, waiting in the LBS, or in a backlog.
-- An owner that has marked its assignment as finished does not look for records any more: the stream is assigned anew,
-- once, and waits in the backlog until the owner has closed the assignment.
-- Needs: lbs, locks, announced, checkpoints. Returns the id of the LBS entry, or false if there was no need.
--- @include record
--- @include entry-id
--- @include announced-mark
-- Marks of streams that are done are looked for by chance, more of them than are added: so they stay few, whoever was
-- the owner, and no call takes long.
local SAMPLED_MARKS = 3

local function announce(stream, field, message)
  local known = redis.call('HGET', announced, stream)
  local record = read_record(stream)
  if record and record.err then
    return false
  end
  local checkpoint = record and redis.call('HGET', checkpoints, stream) or ''
  local finished = record and string.match(checkpoint, '"finished":"(%d+%-%d+)"')
  if record and (finished ~= record.id or known and is_before(finished, known)) then
    return false
  end
  if known and known ~= finished and #redis.call('XRANGE', lbs, known, known) > 0 then
    return false
  end
  local id = redis.call('XADD', lbs, '*', field, message)
  for _, other in ipairs(redis.call('HRANDFIELD', announced, SAMPLED_MARKS)) do
    forget_if_done(other)
  end
  redis.call('HSET', announced, stream, id)
  return id
end
