// Made by scripts/embed-lua.mjs from lua/*.lua. Change those and run `pnpm embed-lua`.

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
local function write_record(stream, record)
  local text = string.format(
    '%s %s %s %.0f %.0f %s',
    record.id, record.fence, record.since, record.crashes, record.commits, record.owner
  )
  redis.call('HSET', locks, stream, text)
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

export const lagLua: string = `local limit = ARGV[1]
local answers = {}
for i = 1, #KEYS do
  if redis.call('TYPE', KEYS[i]).ok == 'stream' then
    local last = redis.call('XREVRANGE', KEYS[i], '+', '-', 'COUNT', 1)[1]
    local behind = #redis.call('XRANGE', KEYS[i], ARGV[1 + i], '+', 'COUNT', limit)
    answers[i] = { behind, last and last[1] or false }
  else
    answers[i] = { 0, false }
  end
end
return answers`

export const replayDeadLua: string = `if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then
  return false
end
local id = redis.call('XADD', KEYS[2], '*', unpack(ARGV, 2))
redis.call('XDEL', KEYS[1], ARGV[1])
return id`

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
local function write_record(stream, record)
  local text = string.format(
    '%s %s %s %.0f %.0f %s',
    record.id, record.fence, record.since, record.crashes, record.commits, record.owner
  )
  redis.call('HSET', locks, stream, text)
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
