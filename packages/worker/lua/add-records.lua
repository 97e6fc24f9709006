-- Adds records to a data stream, at most once per idempotency key, assigns the stream if it is not, and trims it.
-- Only what is committed is trimmed, unless the caller says otherwise.
--
-- KEYS  1 data stream  2 LBS  3 locks  4 announced  5 checkpoints  6 idempotency  7 idempotency times
-- ARGV  1 data stream name  2 field of the LBS entry  3 LBS message, '' to leave the LBS alone
--       4 greatest length, '' for none  5 '1' to trim what is not committed too
--       6 idempotency window (ms)
--       7.. of each record: idempotency key ('' for none), number of words, field and value in turn
-- Returns {LBS id or false, {id, 1 if it was added by this call, else 0} of each record}
local data, lbs, locks, announced, checkpoints, seen, times = unpack(KEYS)
local stream, field, message, max_length, cuts_all, window_ms = unpack(ARGV, 1, 6)
--- @include clock
--- @include entry-id
--- @include announce
--- @include read-ids

-- What is read to trim: as much as was added and more, so that a stream whose records are large shrinks too.
local LEAST_TRIM_BYTES = 256 * 1024
local TRIM_COUNT = 500
local added_bytes = 0

-- Forgets keys whose window is over, a bounded number each time.
local function forget_old()
  local oldest = string.format('%.0f', tonumber(now_ms) - tonumber(window_ms))
  local old = redis.call('ZRANGEBYSCORE', times, '-inf', oldest, 'LIMIT', 0, 200)
  if #old > 0 then
    redis.call('HDEL', seen, unpack(old))
    redis.call('ZREM', times, unpack(old))
  end
end

local function recall(key)
  local added_ms = redis.call('ZSCORE', times, key)
  if added_ms and tonumber(now_ms) - tonumber(added_ms) < tonumber(window_ms) then
    return redis.call('HGET', seen, key)
  end
  return false
end

local function remember(key, id)
  redis.call('HSET', seen, key, id)
  redis.call('ZADD', times, now_ms, key)
  redis.call('PEXPIRE', seen, window_ms)
  redis.call('PEXPIRE', times, window_ms)
end

-- The id of the last record the owner has committed: a worker's checkpoint, or a bare id.
local function committed()
  local checkpoint = redis.call('HGET', checkpoints, stream)
  if not checkpoint then
    return nil
  end
  return string.match(checkpoint, '^{"id":"(%d+%-%d+)"') or string.match(checkpoint, '^%d+%-%d+$')
end

-- Cuts a hundred at a time, so that each record is looked at once and not at every call.
local function trim(greatest)
  if cuts_all == '1' then
    redis.call('XTRIM', data, 'MAXLEN', '~', greatest)
    return
  end
  local excess = redis.call('XLEN', data) - greatest
  local position = committed()
  if not position or excess < math.min(100, math.max(1, greatest / 10)) then
    return
  end
  local first_kept = nil
  local greatest_bytes = math.max(LEAST_TRIM_BYTES, 2 * added_bytes)
  for _, id in ipairs(read_ids(data, '-', math.min(excess, TRIM_COUNT) + 1, greatest_bytes)) do
    first_kept = id
    if is_before(position, first_kept) then
      break
    end
  end
  if first_kept then
    redis.call('XTRIM', data, 'MINID', first_kept)
  end
end

local answers = {}
local at = 7
local has_keys = false
while at <= #ARGV do
  local key, words = ARGV[at], tonumber(ARGV[at + 1])
  if key ~= '' and not has_keys then
    has_keys = true
    forget_old()
  end
  local id = key ~= '' and recall(key)
  if id then
    answers[#answers + 1] = { id, 0 }
  else
    id = redis.call('XADD', data, '*', unpack(ARGV, at + 2, at + 1 + words))
    if key ~= '' then
      remember(key, id)
    end
    for i = at + 2, at + 1 + words do
      added_bytes = added_bytes + #ARGV[i]
    end
    answers[#answers + 1] = { id, 1 }
  end
  at = at + 2 + words
end
local lbs_id = message ~= '' and announce(stream, field, message)
if max_length ~= '' then
  trim(tonumber(max_length))
end
return { lbs_id, unpack(answers) }
