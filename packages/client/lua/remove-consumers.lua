-- Removes dead consumers without pending entries. XGROUP DELCONSUMER destroys pending entries,
-- so the look and the removal are one step.
--
-- KEYS  1 LBS  2 prefix of the heartbeat keys
-- ARGV  1 group  2 how long a consumer must have been silent (ms)  3.. consumers
-- Returns how many were removed.
local lbs, heartbeat_prefix = unpack(KEYS)
local group, retention_ms = ARGV[1], tonumber(ARGV[2])
--- @include roster
local wanted = {}
for i = 3, #ARGV do
  wanted[ARGV[i]] = true
end
local removed = 0
for _, consumer in ipairs(read_roster()) do
  local name, pending, idle_ms, is_alive = unpack(consumer, 1, 4)
  if wanted[name] and pending == 0 and is_alive == 0 and idle_ms >= retention_ms then
    redis.call('XGROUP', 'DELCONSUMER', lbs, group, name)
    removed = removed + 1
  end
end
return removed
