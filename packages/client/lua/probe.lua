-- One probe round, for the one client that wins it.
--
-- KEYS  1 LBS  2 prefix of the heartbeat keys  3 probe
-- ARGV  1 group  2 how long one without pending entries may be silent and still count as alive (ms)
--       3 client id  4 how long the round belongs to the winner (ms)
-- Returns false if another client has the round, else the roster:
--   {{consumer, pending, 1 if alive, ms its heartbeat key has left or -2}, ...}
local lbs, heartbeat_prefix, probe = unpack(KEYS)
local group, silent_ms = ARGV[1], tonumber(ARGV[2])
--- @include roster
if not redis.call('SET', probe, ARGV[3], 'NX', 'PX', ARGV[4]) then
  return false
end
return read_roster(true)
