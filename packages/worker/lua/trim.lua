-- Removes records of a data stream up to and including a position, a bounded number in one call.
--
-- KEYS  1 data stream
-- ARGV  1 position, as the id after it  2 how many records are removed in one step  3 after how many no step follows
-- Returns 1 if all are gone, 0 if another call is needed
local removed = 0
while removed < tonumber(ARGV[3]) do
  -- Whole nodes of the stream, which is cheap, and the only way that takes a limit.
  local step = redis.call('XTRIM', KEYS[1], 'MINID', '~', ARGV[1], 'LIMIT', ARGV[2])
  if step == 0 then
    redis.call('XTRIM', KEYS[1], 'MINID', ARGV[1])
    return 1
  end
  removed = removed + step
end
return 0
