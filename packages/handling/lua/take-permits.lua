-- Takes permits of a rate limit, several in one call, and takes back those that were not used.
-- Not to be sent again after a lost answer: what it gave out would be lost twice, and what it took back would count twice.
--
-- KEYS  1 hash with the bucket
-- ARGV  1 microseconds in which one permit is refilled  2 permits of a full bucket  3 how many are wanted, 0 for none
--       4 how many are given back, 0 for none  5 when those were taken (microseconds, as answered)
-- Returns {permits, microseconds until there is one if there is none, when they were taken}
local key = KEYS[1]
local interval_us, capacity, wanted, unused, taken_us = unpack(ARGV)
--- @include permits

if unused ~= '0' then
  give_back_permits(key, tonumber(interval_us), tonumber(unused), tonumber(taken_us))
end
local permits, wait_us, missing =
  take_permits(key, tonumber(interval_us), tonumber(capacity), tonumber(wanted))
-- A full bucket need not be kept.
redis.call('PEXPIRE', key, string.format('%.0f', math.ceil(missing * tonumber(interval_us) / 1000) + 1000))
return { permits, wait_us, now_us }
