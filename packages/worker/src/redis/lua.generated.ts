// Made by scripts/embed-lua.mjs from lua/*.lua. Change those and run `pnpm embed-lua`.

export const addRecordsLua: string = `local data, lbs, locks, announced, checkpoints, seen, times = unpack(KEYS)
local stream, field, message, max_length, cuts_all, window_ms = unpack(ARGV, 1, 6)
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now_ms = string.format('%.0f', math.floor(now_us / 1000))
local function is_before(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  if #a_ms ~= #b_ms then return #a_ms < #b_ms end
  if a_ms ~= b_ms then return a_ms < b_ms end
  if #a_seq ~= #b_seq then return #a_seq < #b_seq end
  return a_seq < b_seq
end
local function parse_record(text)
  local id, fence, since, crashes, commits, owner = string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  if not id then
    return redis.error_reply('ERR damaged lock record: ' .. text)
  end
  return {
    id = id,
    fence = fence,
    since = since,
    crashes = tonumber(crashes),
    commits = tonumber(commits),
    owner = owner,
  }
end
local function read_record(stream)
  local text = redis.call('HGET', locks, stream)
  return text and parse_record(text) or nil
end
local function format_record(record)
  return string.format(
    '%s %s %s %.0f %.0f %s',
    record.id, record.fence, record.since, record.crashes, record.commits, record.owner
  )
end
local function write_record(stream, record)
  redis.call('HSET', locks, stream, format_record(record))
end
local function forget_if_done(stream)
  local id = redis.call('HGET', announced, stream)
  if not id or redis.call('HEXISTS', locks, stream) == 1 then
    return 0
  end
  if #redis.call('XRANGE', lbs, id, id) > 0 then
    return 0
  end
  return redis.call('HDEL', announced, stream)
end
local SAMPLED_MARKS = 3
local function announce(stream, field, message)
  local known = redis.call('HGET', announced, stream)
  local record = read_record(stream)
  if record and record.err then
    return false
  end
  local checkpoint = record and redis.call('HGET', checkpoints, stream) or ''
  local finished = record and string.match(checkpoint, '"finished":"(%d+%-%d+)"')
  if record and (finished ~= record.id or known and is_before(finished, known)) then
    return false
  end
  if known and known ~= finished and #redis.call('XRANGE', lbs, known, known) > 0 then
    return false
  end
  local id = redis.call('XADD', lbs, '*', field, message)
  for _, other in ipairs(redis.call('HRANDFIELD', announced, SAMPLED_MARKS)) do
    forget_if_done(other)
  end
  redis.call('HSET', announced, stream, id)
  return id
end
local OVERHEAD_BYTES = 32
local GREATEST_STEP = 16
local function size_of(entry)
  local bytes = OVERHEAD_BYTES
  for _, word in ipairs(entry[2]) do
    bytes = bytes + OVERHEAD_BYTES + #word
  end
  return bytes
end
local function read_ids(key, from, limit, greatest_bytes)
  local ids, bytes, step = {}, 0, 1
  while #ids < limit and bytes < greatest_bytes do
    local wanted = math.min(step, limit - #ids)
    local entries = redis.call('XRANGE', key, from, '+', 'COUNT', wanted)
    for _, entry in ipairs(entries) do
      ids[#ids + 1] = entry[1]
      bytes = bytes + size_of(entry)
    end
    if #entries < wanted then
      return ids, 1, bytes
    end
    from = '(' .. ids[#ids]
    step = math.min(2 * step, GREATEST_STEP)
  end
  return ids, 0, bytes
end
local LEAST_TRIM_BYTES = 256 * 1024
local TRIM_COUNT = 500
local added_bytes = 0
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
local function committed()
  local checkpoint = redis.call('HGET', checkpoints, stream)
  if not checkpoint then
    return nil
  end
  return string.match(checkpoint, '^{"id":"(%d+%-%d+)"') or string.match(checkpoint, '^%d+%-%d+$')
end
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
return { lbs_id, unpack(answers) }`

export const announceLua: string = `local lbs, locks, announced, checkpoints = unpack(KEYS)
local function parse_record(text)
  local id, fence, since, crashes, commits, owner = string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  if not id then
    return redis.error_reply('ERR damaged lock record: ' .. text)
  end
  return {
    id = id,
    fence = fence,
    since = since,
    crashes = tonumber(crashes),
    commits = tonumber(commits),
    owner = owner,
  }
end
local function read_record(stream)
  local text = redis.call('HGET', locks, stream)
  return text and parse_record(text) or nil
end
local function format_record(record)
  return string.format(
    '%s %s %s %.0f %.0f %s',
    record.id, record.fence, record.since, record.crashes, record.commits, record.owner
  )
end
local function write_record(stream, record)
  redis.call('HSET', locks, stream, format_record(record))
end
local function is_before(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  if #a_ms ~= #b_ms then return #a_ms < #b_ms end
  if a_ms ~= b_ms then return a_ms < b_ms end
  if #a_seq ~= #b_seq then return #a_seq < #b_seq end
  return a_seq < b_seq
end
local function forget_if_done(stream)
  local id = redis.call('HGET', announced, stream)
  if not id or redis.call('HEXISTS', locks, stream) == 1 then
    return 0
  end
  if #redis.call('XRANGE', lbs, id, id) > 0 then
    return 0
  end
  return redis.call('HDEL', announced, stream)
end
local SAMPLED_MARKS = 3
local function announce(stream, field, message)
  local known = redis.call('HGET', announced, stream)
  local record = read_record(stream)
  if record and record.err then
    return false
  end
  local checkpoint = record and redis.call('HGET', checkpoints, stream) or ''
  local finished = record and string.match(checkpoint, '"finished":"(%d+%-%d+)"')
  if record and (finished ~= record.id or known and is_before(finished, known)) then
    return false
  end
  if known and known ~= finished and #redis.call('XRANGE', lbs, known, known) > 0 then
    return false
  end
  local id = redis.call('XADD', lbs, '*', field, message)
  for _, other in ipairs(redis.call('HRANDFIELD', announced, SAMPLED_MARKS)) do
    forget_if_done(other)
  end
  redis.call('HSET', announced, stream, id)
  return id
end
return announce(unpack(ARGV))`

export const deleteStreamLua: string = `local heartbeat, locks, data = unpack(KEYS)
local client_id, token, stream, id, fence, position = unpack(ARGV)
local function parse_record(text)
  local id, fence, since, crashes, commits, owner = string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  if not id then
    return redis.error_reply('ERR damaged lock record: ' .. text)
  end
  return {
    id = id,
    fence = fence,
    since = since,
    crashes = tonumber(crashes),
    commits = tonumber(commits),
    owner = owner,
  }
end
local function read_record(stream)
  local text = redis.call('HGET', locks, stream)
  return text and parse_record(text) or nil
end
local function format_record(record)
  return string.format(
    '%s %s %s %.0f %.0f %s',
    record.id, record.fence, record.since, record.crashes, record.commits, record.owner
  )
end
local function write_record(stream, record)
  redis.call('HSET', locks, stream, format_record(record))
end
local function read_own_record(stream, id, fence)
  if redis.call('GET', heartbeat) ~= token then
    return nil, 'SESSION_LOST'
  end
  local record = read_record(stream)
  if not record or record.err or record.id ~= id or record.fence ~= fence
    or record.owner ~= client_id .. ':' .. token
  then
    return nil, 'NOT_OWNED'
  end
  return record
end
local function is_before(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  if #a_ms ~= #b_ms then return #a_ms < #b_ms end
  if a_ms ~= b_ms then return a_ms < b_ms end
  if #a_seq ~= #b_seq then return #a_seq < #b_seq end
  return a_seq < b_seq
end
local record, problem = read_own_record(stream, id, fence)
if not record then
  return problem
end
local last = redis.call('XREVRANGE', data, '+', '-', 'COUNT', 1)[1]
if last and is_before(position, last[1]) then
  return 'NEWER'
end
redis.call('UNLINK', data)
return 'DELETED'`

export const forgetAnnouncedLua: string = `local lbs, locks, announced = unpack(KEYS)
local function forget_if_done(stream)
  local id = redis.call('HGET', announced, stream)
  if not id or redis.call('HEXISTS', locks, stream) == 1 then
    return 0
  end
  if #redis.call('XRANGE', lbs, id, id) > 0 then
    return 0
  end
  return redis.call('HDEL', announced, stream)
end
return forget_if_done(ARGV[1])`

export const lookLua: string = `local limit, stream_bytes, call_bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local spent = 0
local function is_before(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  if #a_ms ~= #b_ms then return #a_ms < #b_ms end
  if a_ms ~= b_ms then return a_ms < b_ms end
  if #a_seq ~= #b_seq then return #a_seq < #b_seq end
  return a_seq < b_seq
end
local OVERHEAD_BYTES = 32
local GREATEST_STEP = 16
local function size_of(entry)
  local bytes = OVERHEAD_BYTES
  for _, word in ipairs(entry[2]) do
    bytes = bytes + OVERHEAD_BYTES + #word
  end
  return bytes
end
local function read_ids(key, from, limit, greatest_bytes)
  local ids, bytes, step = {}, 0, 1
  while #ids < limit and bytes < greatest_bytes do
    local wanted = math.min(step, limit - #ids)
    local entries = redis.call('XRANGE', key, from, '+', 'COUNT', wanted)
    for _, entry in ipairs(entries) do
      ids[#ids + 1] = entry[1]
      bytes = bytes + size_of(entry)
    end
    if #entries < wanted then
      return ids, 1, bytes
    end
    from = '(' .. ids[#ids]
    step = math.min(2 * step, GREATEST_STEP)
  end
  return ids, 0, bytes
end
local function read_info(key)
  local words = redis.call('XINFO', 'STREAM', key)
  local info = {}
  for i = 1, #words, 2 do
    info[words[i]] = words[i + 1]
  end
  return info
end
local function look(key, position)
  if redis.call('TYPE', key).ok ~= 'stream' then
    return false
  end
  local info = read_info(key)
  local first, last = info['first-entry'], info['last-entry']
  local count, is_all = 0, 1
  if first then
    spent = spent + size_of(first) + size_of(last)
    if is_before(position, first[1]) then
      count = info.length
    elseif is_before(position, last[1]) then
      local ids, read_all, bytes = read_ids(key, '(' .. position, limit, stream_bytes)
      count, is_all, spent = #ids, read_all, spent + bytes
    end
  end
  return {
    info.length,
    first and first[1] or false,
    last and last[1] or false,
    info['last-generated-id'],
    info['entries-added'] or -1,
    count,
    is_all,
  }
end
local answers = {}
for i, key in ipairs(KEYS) do
  answers[i] = look(key, ARGV[3 + i])
  if spent >= call_bytes then
    break
  end
end
return answers`

export const replayDeadLua: string = `if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then
  return false
end
local id = redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
redis.call('XDEL', KEYS[1], ARGV[1])
return id`

export const takeLetterLua: string = `local dead = KEYS[1]
local group, consumer, first_ms, factor, greatest_ms, cursor, page = unpack(ARGV)
local function claim(id)
  local entry = redis.call('XCLAIM', dead, group, consumer, 0, id)[1]
  if type(entry) ~= 'table' or not entry[2] then
    redis.call('XACK', dead, group, id) -- it was dropped or replayed
    return false
  end
  return true
end
local due = redis.call('XPENDING', dead, group, 'IDLE', first_ms, cursor, '+', page)
for _, pending in ipairs(due) do
  local id, idle_ms, calls = pending[1], pending[3], pending[4]
  local delay_ms = math.min(tonumber(greatest_ms), tonumber(first_ms) * tonumber(factor) ^ math.min(calls - 1, 1000))
  cursor = '(' .. id
  if idle_ms >= delay_ms and claim(id) then
    return { id, calls + 1, cursor }
  end
end
if #due < tonumber(page) then
  cursor = '-'
end
local read = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', 1, 'STREAMS', dead, '>')
return { read and read[1][2][1][1] or false, 1, cursor }`

export const transactLua: string = `local heartbeat, locks, checkpoints = unpack(KEYS, 1, 3)
local client_id, token, stream, id, fence = unpack(ARGV, 1, 5)
local number, checkpoint = tonumber(ARGV[6]), ARGV[7]
local function parse_record(text)
  local id, fence, since, crashes, commits, owner = string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  if not id then
    return redis.error_reply('ERR damaged lock record: ' .. text)
  end
  return {
    id = id,
    fence = fence,
    since = since,
    crashes = tonumber(crashes),
    commits = tonumber(commits),
    owner = owner,
  }
end
local function read_record(stream)
  local text = redis.call('HGET', locks, stream)
  return text and parse_record(text) or nil
end
local function format_record(record)
  return string.format(
    '%s %s %s %.0f %.0f %s',
    record.id, record.fence, record.since, record.crashes, record.commits, record.owner
  )
end
local function write_record(stream, record)
  redis.call('HSET', locks, stream, format_record(record))
end
local function read_own_record(stream, id, fence)
  if redis.call('GET', heartbeat) ~= token then
    return nil, 'SESSION_LOST'
  end
  local record = read_record(stream)
  if not record or record.err or record.id ~= id or record.fence ~= fence
    or record.owner ~= client_id .. ':' .. token
  then
    return nil, 'NOT_OWNED'
  end
  return record
end
local record, problem = read_own_record(stream, id, fence)
if not record then
  return { problem }
end
if record.commits >= number then
  return { record.commits == number and 'DONE' or 'STALE' }
end
local replies = {}
local at = 8
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  local reply = redis.pcall(unpack(ARGV, at + 1, at + words))
  if type(reply) == 'table' and reply.err then
    return { 'REFUSED', #replies + 1, reply.err }
  end
  replies[#replies + 1] = reply
  at = at + 1 + words
end
redis.call('HSET', checkpoints, stream, checkpoint)
record.crashes, record.commits = 0, number
write_record(stream, record)
return { 'OK', replies }`

export const trimLua: string = `local removed = 0
while removed < tonumber(ARGV[3]) do
  local step = redis.call('XTRIM', KEYS[1], 'MINID', '~', ARGV[1], 'LIMIT', ARGV[2])
  if step == 0 then
    redis.call('XTRIM', KEYS[1], 'MINID', ARGV[1])
    return 1
  end
  removed = removed + step
end
return 0`
