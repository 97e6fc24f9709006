-- The consumers of the group as XINFO CONSUMERS shows them; none without a stream or group yet: the reader makes both.
-- Needs: lbs, group.
local function read_consumers()
  local consumers = redis.pcall('XINFO', 'CONSUMERS', lbs, group)
  if not consumers.err then
    return consumers
  end
  if string.find(consumers.err, 'NOGROUP') or string.find(consumers.err, 'no such key') then
    return {}
  end
  return redis.call('XINFO', 'CONSUMERS', lbs, group) -- refused: this says so, with the line
end
