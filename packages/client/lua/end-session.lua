-- Ends a session: its heartbeat key goes, if it still is its own, and the others are told that its consumer is dead.
--
-- KEYS  1 own heartbeat
-- ARGV  1 token  2 channel  3 message
-- Returns 1 if the key was there, else 0.
local removed = 0
if redis.call('GET', KEYS[1]) == ARGV[1] then
  removed = redis.call('DEL', KEYS[1])
end
redis.pcall('PUBLISH', ARGV[2], ARGV[3]) -- a hint: whoever may not publish has ended all the same
return removed
