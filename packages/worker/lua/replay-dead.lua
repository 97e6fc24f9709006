-- Adds a dead record to its data stream again and removes the dead letter.
--
-- KEYS  1 dead records  2 data stream
-- ARGV  1 id of the dead letter  2.. fields and values of the record
-- Returns the id of the new record, or false if the dead letter is gone
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then
  return false
end
local id = redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
redis.call('XDEL', KEYS[1], ARGV[1])
return id
