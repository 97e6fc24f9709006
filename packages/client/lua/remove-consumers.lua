-- Removes dead consumers without pending entries. XGROUP DELCONSUMER destroys pending entries,
-- so the look and the removal are one step.
--
-- KEYS  1 LBS  2 prefix of the heartbeat keys
-- ARGV  1 group  2 how long a consumer must have been silent (ms)  3 how many to remove at most
-- Returns how many were removed.
local lbs, heartbeat_prefix = unpack(KEYS)
local group, retention_ms, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
--- @include session
--- @include consumers
local consumers = read_consumers()
local removed = 0
for i = 1, #consumers do
  local fact = {}
  for j = 1, #consumers[i], 2 do
    fact[consumers[i][j]] = consumers[i][j + 1]
  end
  if removed < limit and fact.pending == 0 and fact.idle >= retention_ms and not is_living(fact.name) then
    redis.call('XGROUP', 'DELCONSUMER', lbs, group, fact.name)
    removed = removed + 1
  end
end
return removed
