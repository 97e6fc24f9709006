-- Frees a data stream: the first of its backlog goes back to the LBS with the record reserved for it;
-- without a backlog the record goes. The write that adds comes first.
-- Needs: lbs, locks, checkpoints.
--- @include clock
--- @include record
local function free_stream(stream, backlog, keep_checkpoint)
  local first = redis.call('LINDEX', backlog, 0)
  if first then
    local item = cjson.decode(first)
    local id = redis.call('XADD', lbs, '*', unpack(item, 2))
    write_record(stream, { id = id, fence = '0', since = now_ms, crashes = 0, commits = 0, owner = '' })
    redis.call('LPOP', backlog)
  else
    redis.call('HDEL', locks, stream)
  end
  if not keep_checkpoint then
    redis.call('HDEL', checkpoints, stream)
  end
end
