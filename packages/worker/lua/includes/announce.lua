-- Assigns a data stream to the LBS, unless it is assigned already: owned, waiting in the LBS, or in a backlog.
-- Needs: lbs, locks, announced. Returns the id of the LBS entry, or false if there was no need.
local function announce(stream, field, message)
  if redis.call('HEXISTS', locks, stream) == 1 then
    return false
  end
  local known = redis.call('HGET', announced, stream)
  if known and #redis.call('XRANGE', lbs, known, known) > 0 then
    return false
  end
  local id = redis.call('XADD', lbs, '*', field, message)
  redis.call('HSET', announced, stream, id)
  return id
end
