-- Takes data streams for the calling session: `acquire` those it has read, `dealt` those it was dealt, `claim` those of
-- others.
--
-- KEYS  1 LBS  2 own heartbeat  3 locks  4 fence  5 checkpoints  6 dead letters  7 prefix of the heartbeat keys
--       8.. the two keys of the backlog of each entry's data stream
-- ARGV  1 group  2 client id  3 token  4 'acquire', 'dealt' or 'claim'  5 greatest number of crashes, -1: no limit
--       6 crash window (ms)  7 idle time after which an unlocked entry is stranded (ms)
--       8 tokens of this process's earlier sessions, separated by spaces  9 greatest number of dead letters, '': no limit
--       10.. LBS id and data stream name of each entry, and the greatest fence the client knew before it asked for it
-- Returns 'SESSION_LOST', or for each entry (only for the first of them once its budget of bytes is spent) one of
--   {'TAKEN', fence, commits, 1 if an owner went before, 2 if one fell that was no earlier session of this process,
--    checkpoint or false}
--   {'CLAIMED'}  another living session holds it     {'QUEUED'}  its stream is held for another entry: it waits
--   {'GONE'}     not pending, or not in the LBS      {'LEFT'}    not pending under this session, and no claim
--   {'GONE', fence}  not in the LBS, and the caller holds it under this fence. Nothing has changed: were the stream freed
--                    here, another client could have it before its owner has heard of it
--   {'DEAD', reason, error}  it cannot be served (any more): it is in the dead letters
local lbs, heartbeat, locks, fence_key, checkpoints, dead, heartbeat_prefix = unpack(KEYS, 1, 7)
local group, client_id, token, mode = unpack(ARGV, 1, 4)
local max_crashes, crash_window_ms, stranded_ms = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local dead_max_length = ARGV[9]
local entries = (#ARGV - 9) / 3
local consumer = client_id .. ':' .. token
-- What waits is put back with unpack, which takes about 8000 values.
local MAX_QUEUED_VALUES = 7000
--- @include session
--- @include record
--- @include free-stream
--- @include entry
--- @include dead-letter
--- @include remove-consumer

if redis.call('GET', heartbeat) ~= token then
  return 'SESSION_LOST'
end

local former = {}
for text in string.gmatch(ARGV[8], '%S+') do
  former[text] = true
end

-- Fences are drawn as one block for the whole call; a gap harms nobody.
local last_fence
local function next_fence()
  if not last_fence then
    local first = math.max((tonumber(redis.call('GET', fence_key) or 0) or 0) + 1, now_us)
    redis.call('SET', fence_key, string.format('%.0f', first + entries - 1))
    last_fence = first - 1
  end
  last_fence = last_fence + 1
  return string.format('%.0f', last_fence)
end

-- Whether its last owner crashed or hung. What is taken back after the loss of an own session was no crash.
local function has_fallen(record)
  return record.owner ~= '' and not former[string.match(record.owner, '[^:]*$')]
end

local function count_crashes(record)
  if not has_fallen(record) then
    return record.crashes
  end
  return tonumber(now_ms) - tonumber(record.since) < crash_window_ms and record.crashes + 1 or 0
end

-- Entries are decided in rounds in which no data stream occurs twice, so that no decision of a round depends on
-- another. What Redis says of all of them is read before, and what is taken is written after, in one command each.
local round

local function begin_round(first, last)
  local names = {}
  for i = first, last do
    names[#names + 1] = ARGV[8 + 3 * i]
  end
  round = { records = {}, checkpoints = {}, own = {}, records_to_write = {}, ids_to_claim = {} }
  local records = redis.call('HMGET', locks, unpack(names))
  local saved = redis.call('HMGET', checkpoints, unpack(names))
  for i, name in ipairs(names) do
    round.records[name] = records[i]
    round.checkpoints[name] = saved[i]
  end
  if mode ~= 'claim' then
    local first_id, last_id = ARGV[7 + 3 * first], ARGV[7 + 3 * last]
    for _, pending in ipairs(redis.call('XPENDING', lbs, group, first_id, last_id, #names, consumer)) do
      round.own[pending[1]] = pending
    end
  end
end

local function end_round()
  if #round.records_to_write > 0 then
    redis.call('HSET', locks, unpack(round.records_to_write))
  end
  if #round.ids_to_claim > 0 then
    table.insert(round.ids_to_claim, 'JUSTID')
    redis.call('XCLAIM', lbs, group, consumer, 0, unpack(round.ids_to_claim))
  end
end

local function answer_taken(stream, record, recovered)
  return { 'TAKEN', record.fence, record.commits, recovered, round.checkpoints[stream] }
end

local function take(id, stream, holder, crashes, recovered)
  local record =
    { id = id, fence = next_fence(), since = now_ms, crashes = crashes, commits = 0, owner = consumer }
  table.insert(round.records_to_write, stream)
  table.insert(round.records_to_write, format_record(record))
  if holder ~= consumer then
    table.insert(round.ids_to_claim, id)
  end
  return answer_taken(stream, record, recovered)
end

-- Dead consumers from which something may have been taken: the last entry goes together with the name.
local dead_holders = {}

local function remove(id)
  redis.call('XACK', lbs, group, id)
  redis.call('XDEL', lbs, id)
end

local function decide(id, stream, known_fence, waiting)
  local recovered = mode == 'acquire' and 0 or 1
  local text = round.records[stream]
  if not text and round.own[id] then
    return take(id, stream, consumer, 0, recovered) -- the common case: just read, nobody has the stream
  end
  local record = text and parse_record(text) or nil
  if record and record.err then
    return record
  end
  local pending = round.own[id] or redis.call('XPENDING', lbs, group, id, id, 1)[1]

  local entry = find_entry(id)
  if not entry then
    if record and record.id == id and record.owner == consumer then
      return { 'GONE', record.fence }
    end
    if record and record.id == id and not is_living(record.owner) then
      free_stream(stream, waiting)
    end
    if pending then
      redis.call('XACK', lbs, group, id)
    end
    return { 'GONE' }
  end
  if record and record.id == id and record.owner == consumer then
    -- An earlier answer was lost. Or Redis has come back older, and with it the record of a stream that the caller had
    -- left: others may have had it under greater fences since.
    if tonumber(record.fence) <= tonumber(known_fence) then
      record.fence = next_fence()
      write_record(stream, record)
    end
    if pending and pending[2] ~= consumer then
      redis.call('XCLAIM', lbs, group, consumer, 0, id, 'JUSTID')
    end
    return answer_taken(stream, record, recovered)
  end
  if not pending then
    return { 'GONE' }
  end

  local holder, idle_ms = pending[2], pending[3]
  if holder ~= consumer then
    if mode ~= 'claim' then
      return { 'LEFT' }
    end
    if not is_living(holder) then
      dead_holders[holder] = true
    end
    local reserved = record and record.id == id and record.owner == ''
    local stranded = not record and idle_ms >= stranded_ms
    if is_living(holder) and not reserved and not stranded then
      return { 'CLAIMED' }
    end
  end

  if not record then
    return take(id, stream, holder, 0, recovered)
  end
  if record.id == id then
    if is_living(record.owner) then
      if holder ~= record.owner then -- the group was made anew and the entry delivered again
        redis.call('XCLAIM', lbs, group, record.owner, 0, id, 'JUSTID')
      end
      return { 'CLAIMED' }
    end
    local crashes = count_crashes(record)
    if max_crashes >= 0 and crashes > max_crashes then
      local problem = string.format('%.0f owners in a row crashed while they held it', crashes)
      add_dead_letter(id, entry[2], 'max-crashes', problem)
      free_stream(stream, waiting)
      remove(id)
      return { 'DEAD', 'max-crashes', problem }
    end
    local had_owner = record.fence ~= '0' and 1 or recovered
    return take(id, stream, holder, crashes, has_fallen(record) and 2 or had_owner)
  end

  if #entry[2] > MAX_QUEUED_VALUES then
    local problem = string.format('%d fields are too many to wait in a backlog', #entry[2] / 2)
    add_dead_letter(id, entry[2], 'unserviceable', problem)
    remove(id)
    return { 'DEAD', 'unserviceable', problem }
  end
  local is_stale = not find_entry(record.id) and not is_living(record.owner)
  push_backlog(waiting, id, entry[2])
  if is_stale then
    free_stream(stream, waiting)
  end
  remove(id)
  return { 'QUEUED' }
end

local answers = {}
local first = 1
while first <= entries do
  local seen, last = {}, first - 1
  while last < entries and not seen[ARGV[11 + 3 * last]] do
    last = last + 1
    seen[ARGV[8 + 3 * last]] = true
  end
  begin_round(first, last)
  for i = first, last do
    if is_spent() then
      end_round()
      return answers
    end
    local answer = decide(ARGV[7 + 3 * i], ARGV[8 + 3 * i], ARGV[9 + 3 * i], waiting_of(8, i))
    if answer.err then
      return answer
    end
    answers[i] = answer
  end
  end_round()
  first = last + 1
end
for holder in pairs(dead_holders) do
  remove_if_empty(holder)
end
return answers
