-- A token bucket in one field of a hash: `<microseconds> <permits missing at that moment>`. No field: it is full.
-- In any span of time it gives out at most `capacity` permits more than one for each `interval_us`.
-- Needs: now_us.
--- @include clock
local BUCKET = 'bucket'

-- How many permits are missing now. With a clock that was set back nothing is refilled.
local function read_missing(key, interval_us)
  local at, missing = string.match(redis.call('HGET', key, BUCKET) or '', '^(%S+) (%S+)$')
  if not at then
    return 0
  end
  return math.max(0, tonumber(missing) - math.max(0, now_us - tonumber(at)) / interval_us)
end

local function write_missing(key, missing)
  redis.call('HSET', key, BUCKET, string.format('%.0f %.17g', now_us, missing))
end

-- Takes up to `wanted` permits. Returns how many, how long until there is one if there is none (microseconds), and how
-- many are missing then.
local function take_permits(key, interval_us, capacity, wanted)
  local missing = math.min(capacity, read_missing(key, interval_us))
  local permits = math.min(wanted, math.floor(capacity - missing))
  missing = missing + permits
  write_missing(key, missing)
  local wait_us = permits > 0 and 0 or math.ceil((missing + 1 - capacity) * interval_us)
  return permits, wait_us, missing
end

-- Takes back permits that were taken at `taken_us` and not used. What was refilled since then is kept back, because a full
-- bucket would not have been refilled. Else permits that pass from client to client without being used would pile up.
local function give_back_permits(key, interval_us, permits, taken_us)
  local credit = permits - (now_us - taken_us) / interval_us
  if credit > 0 and now_us >= taken_us then
    write_missing(key, math.max(0, read_missing(key, interval_us) - credit))
  end
end
