-- The mark of a stream that was announced is needed until its assignment is done: while it is owned, reserved or waits for
-- its turn it has a lock record, before that its entry is in the LBS.
-- Needs: lbs, locks, announced. Returns 1 if the mark was removed.
local function forget_if_done(stream)
  local id = redis.call('HGET', announced, stream)
  if not id or redis.call('HEXISTS', locks, stream) == 1 then
    return 0
  end
  if #redis.call('XRANGE', lbs, id, id) > 0 then
    return 0
  end
  return redis.call('HDEL', announced, stream)
end
