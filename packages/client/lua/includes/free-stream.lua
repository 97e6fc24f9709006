-- Frees a data stream: the first of its backlog goes back to the LBS with the record reserved for it;
-- without a backlog the record goes. The write that adds comes first.
-- Needs: lbs, locks, checkpoints.
--- @include clock
--- @include record
--- @include backlog
local function free_stream(stream, waiting, keep_checkpoint)
  local was_waiting = shift_backlog(waiting, function(...)
    local id = redis.call('XADD', lbs, '*', ...)
    write_record(stream, { id = id, fence = '0', since = now_ms, crashes = 0, commits = 0, owner = '' })
  end)
  if not was_waiting then
    redis.call('HDEL', locks, stream)
  end
  if not keep_checkpoint then
    redis.call('HDEL', checkpoints, stream)
  end
end
