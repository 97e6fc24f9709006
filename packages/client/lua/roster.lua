-- Reads the consumers of the group and which of them are alive.
--
-- KEYS  1 LBS  2 prefix of the heartbeat keys
-- ARGV  1 group
-- Returns {{consumer, pending, idle ms, 1 if alive, ms its heartbeat key has left or -2}, ...}
local lbs, heartbeat_prefix = unpack(KEYS)
local group = ARGV[1]
--- @include roster
return read_roster()
