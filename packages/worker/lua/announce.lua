-- Assigns a data stream to the LBS, unless it is assigned already.
--
-- KEYS  1 LBS  2 locks  3 announced  4 checkpoints
-- ARGV  1 data stream name  2 field of the LBS entry  3 message
-- Returns the id of the LBS entry, or false if the stream is assigned already
local lbs, locks, announced, checkpoints = unpack(KEYS)
--- @include announce
return announce(unpack(ARGV))
