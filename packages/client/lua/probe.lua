-- One probe round, for the one client that wins it.
--
-- KEYS  1 LBS  2 prefix of the heartbeat keys  3 probe
-- ARGV  1 group  2 client id  3 how long the round belongs to the winner (ms)
-- Returns false if another client has the round, else the roster:
--   {{consumer, pending, idle ms, 1 if alive, ms its heartbeat key has left or -2}, ...}
local lbs, heartbeat_prefix, probe = unpack(KEYS)
local group = ARGV[1]
--- @include roster
if not redis.call('SET', probe, ARGV[2], 'NX', 'PX', ARGV[3]) then
  return false
end
return read_roster()
