-- The consumers of the group with what their heartbeat keys say.
-- Those without pending entries that have been silent for silent_ms are dead: a living one shows itself all the time.
-- Needs: lbs, group, heartbeat_prefix, members, silent_ms, now_ms. Reading a key past its TTL deletes it and publishes
-- `expired` at once.
-- Returns {{consumer, pending, 1 if alive, ms, facts, age}, ...} of those that are alive or have entries pending.
--   ms: of the living what their keys have left, or -2 without with_ends; of the others how long what waits under them
--       is kept from clients in general, see includes/waiting.lua
--   facts, age: of the living, what their session has entered and how long ago it began in ms (begin-session.lua)
--- @include session
--- @include consumers
--- @include waiting
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

-- What living clients have entered, by client id.
local function read_members(facts)
  local client_ids, texts = {}, {}
  for _, fact in ipairs(facts) do
    if is_living(fact.name) then
      client_ids[#client_ids + 1] = string.match(fact.name, '^(.*):[^:]+$')
    end
  end
  for start = 1, #client_ids, KEYS_A_READ do
    local last = math.min(start + KEYS_A_READ - 1, #client_ids)
    for i, text in ipairs(redis.call('HMGET', members, unpack(client_ids, start, last))) do
      texts[client_ids[start + i - 1]] = text
    end
  end
  return texts
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
  local texts = read_members(facts)
  local roster = {}
  for _, fact in ipairs(facts) do
    local alive = is_living(fact.name)
    if alive then
      local client_id = string.match(fact.name, '^(.*):[^:]+$')
      local left = with_ends and redis.call('PTTL', heartbeat_prefix .. client_id) or -2
      local entered, began_ms = string.match(texts[client_id] or '', '^(.-(%d+));')
      local age_ms = began_ms and math.max(0, tonumber(now_ms) - tonumber(began_ms)) or 0
      roster[#roster + 1] = { fact.name, fact.pending, 1, left, entered or '', age_ms }
    elseif fact.pending > 0 then
      local wait_ms = wait_of(fact.name, '')
      roster[#roster + 1] = { fact.name, fact.pending, 0, wait_ms, '', 0 }
    end
  end
  return roster
end
