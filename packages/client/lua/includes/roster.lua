-- The consumers of the group with what their heartbeat keys say.
-- Those without pending entries that have been silent for silent_ms are dead: a living one reads all the time.
-- Needs: lbs, group, heartbeat_prefix, silent_ms. Reading a key past its TTL deletes it and publishes `expired` at once.
-- Returns {{consumer, pending, 1 if alive, ms its heartbeat key has left or -2}, ...} of those that are alive or have
-- entries pending.
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
    local is_silent = fact.pending == 0 and fact.idle >= silent_ms
    local alive = not is_silent and is_living(fact.name)
    local left = -2
    if alive then
      left = redis.call('PTTL', heartbeat_prefix .. string.match(fact.name, '^(.*):[^:]+$'))
    end
    if alive or fact.pending > 0 then
      roster[#roster + 1] = { fact.name, fact.pending, alive and 1 or 0, left }
    end
  end
  return roster
end
