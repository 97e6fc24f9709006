-- Reads which consumers are alive, for the one client that wins: the round of a probe, or the probe after a hint.
--
-- KEYS  1 LBS  2 prefix of the heartbeat keys  3 members  4 key that belongs to the winner for a while  5 level
-- ARGV  1 group  2 how long one without pending entries may be silent and still count as alive (ms)
--       3 client id  4 how long the key belongs to the winner (ms)
-- Returns the level key ('' if there is none) if another client has the key,
--   else {how many entries the LBS has, the roster, see includes/roster.lua}
local lbs, heartbeat_prefix, members, probe, level = unpack(KEYS)
local group, silent_ms = ARGV[1], tonumber(ARGV[2])
if not redis.call('SET', probe, ARGV[3], 'NX', 'PX', ARGV[4]) then
  return redis.call('GET', level) or ''
end
--- @include clock
--- @include roster
return { redis.call('XLEN', lbs), read_roster(true) }
