-- Reads the consumers of the group that are alive or have entries pending.
--
-- KEYS  1 LBS  2 prefix of the heartbeat keys  3 members
-- ARGV  1 group  2 how long one without pending entries may be silent and still count as alive (ms)
--       3 '1': also read how long the heartbeat keys have left
-- Returns the roster, see includes/roster.lua
local lbs, heartbeat_prefix, members = unpack(KEYS)
local group, silent_ms = ARGV[1], tonumber(ARGV[2])
--- @include clock
--- @include roster
return read_roster(ARGV[3] == '1')
