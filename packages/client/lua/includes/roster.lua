-- The consumers of the group with what their heartbeat keys say.
-- Needs: lbs, group, heartbeat_prefix. Reading a key past its TTL deletes it and publishes `expired` at once.
-- Returns {{consumer, pending, idle ms, 1 if alive, ms its heartbeat key has left or -2}, ...}.
--- @include session
local function read_roster()
  local consumers = redis.pcall('XINFO', 'CONSUMERS', lbs, group)
  local roster = {}
  if consumers.err then
    return roster -- no stream or no group yet: the reader makes both
  end
  for i = 1, #consumers do
    local fact = {}
    for j = 1, #consumers[i], 2 do
      fact[consumers[i][j]] = consumers[i][j + 1]
    end
    local alive = is_living(fact.name)
    local left = -2
    if alive then
      left = redis.call('PTTL', heartbeat_prefix .. string.match(fact.name, '^(.*):[^:]+$'))
    end
    roster[#roster + 1] = { fact.name, fact.pending, fact.idle, alive and 1 or 0, left }
  end
  return roster
end
