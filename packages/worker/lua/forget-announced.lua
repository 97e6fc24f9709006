-- Forgets under which id a data stream was announced, unless it is assigned or waits in the LBS.
--
-- KEYS  1 LBS  2 locks  3 announced
-- ARGV  1 data stream name
-- Returns 1 if it was forgotten, else 0
local lbs, locks, announced = unpack(KEYS)
--- @include announced-mark
return forget_if_done(ARGV[1])
