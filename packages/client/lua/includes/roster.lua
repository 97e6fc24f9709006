-- The consumers of the group with what their heartbeat keys say.
-- Those without pending entries that have been silent for silent_ms are dead: a living one shows itself all the time.
-- Needs: lbs, group, heartbeat_prefix, silent_ms. Reading a key past its TTL deletes it and publishes `expired` at once.
-- Returns {{consumer, pending, 1 if alive, ms its heartbeat key has left or -2}, ...} of those that are alive or have
-- entries pending; what the keys have left only if with_ends.
--- @include session
--- @include consumers
-- unpack takes about 8000 values.
local KEYS_A_READ = 1000

-- Reads the heartbeats of many consumers at once, for is_living.
local function read_heartbeats(facts)
  for start = 1, #facts, KEYS_A_READ do
    local keys, tokens = {}, {}
    for i = start, math.min(start + KEYS_A_READ - 1, #facts) do
      local client_id, token = string.match(facts[i].name, '^(.*):([^:]+)$')
      keys[#keys + 1] = heartbeat_prefix .. (client_id or '')
      tokens[#keys] = token
    end
    local values = redis.call('MGET', unpack(keys))
    for i, value in ipairs(values) do
      living[facts[start + i - 1].name] = value == tokens[i]
    end
  end
end

local function read_roster(with_ends)
  local consumers = read_consumers()
  local facts = {}
  for i = 1, #consumers do
    local fact = {}
    for j = 1, #consumers[i], 2 do
      fact[consumers[i][j]] = consumers[i][j + 1]
    end
    if fact.pending > 0 or fact.idle < silent_ms then
      facts[#facts + 1] = fact
    end
  end
  read_heartbeats(facts)
  local roster = {}
  for _, fact in ipairs(facts) do
    local alive = is_living(fact.name)
    local left = -2
    if alive and with_ends then
      left = redis.call('PTTL', heartbeat_prefix .. string.match(fact.name, '^(.*):[^:]+$'))
    end
    if alive or fact.pending > 0 then
      roster[#roster + 1] = { fact.name, fact.pending, alive and 1 or 0, left }
    end
  end
  return roster
end
