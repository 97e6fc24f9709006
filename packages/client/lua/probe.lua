-- Reads which consumers are alive, for the one client that wins: the round of a probe, or the probe after a hint.
--
-- KEYS  1 LBS  2 prefix of the heartbeat keys  3 members  4 key that belongs to the winner for a while
-- ARGV  1 group  2 how long one without pending entries may be silent and still count as alive (ms)
--       3 client id  4 how long the key belongs to the winner (ms)
-- Returns false if another client has the key, else the roster, see includes/roster.lua
local lbs, heartbeat_prefix, members, probe = unpack(KEYS)
local group, silent_ms = ARGV[1], tonumber(ARGV[2])
if not redis.call('SET', probe, ARGV[3], 'NX', 'PX', ARGV[4]) then
  return false
end
--- @include clock
--- @include roster
return read_roster(true)
