// Made by scripts/embed-lua.mjs from lua/*.lua. Change those and run `pnpm embed-lua`.

export const takePermitsLua: string = `local key = KEYS[1]
local interval_us, capacity, wanted, unused, taken_us = unpack(ARGV)
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now_ms = string.format('%.0f', math.floor(now_us / 1000))
local BUCKET = 'bucket'
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
local function take_permits(key, interval_us, capacity, wanted)
  local missing = math.min(capacity, read_missing(key, interval_us))
  local permits = math.min(wanted, math.floor(capacity - missing))
  missing = missing + permits
  write_missing(key, missing)
  local wait_us = permits > 0 and 0 or math.ceil((missing + 1 - capacity) * interval_us)
  return permits, wait_us, missing
end
local function give_back_permits(key, interval_us, permits, taken_us)
  local credit = permits - (now_us - taken_us) / interval_us
  if credit > 0 and now_us >= taken_us then
    write_missing(key, math.max(0, read_missing(key, interval_us) - credit))
  end
end
if unused ~= '0' then
  give_back_permits(key, tonumber(interval_us), tonumber(unused), tonumber(taken_us))
end
local permits, wait_us, missing =
  take_permits(key, tonumber(interval_us), tonumber(capacity), tonumber(wanted))
redis.call('PEXPIRE', key, string.format('%.0f', math.ceil(missing * tonumber(interval_us) / 1000) + 1000))
return { permits, wait_us, now_us }`
