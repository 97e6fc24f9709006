// Made by scripts/embed-lua.mjs from lua/*.lua. Change those and run `pnpm embed-lua`.

export const beginSessionLua: string = `local lbs, heartbeat, members, protocol = unpack(KEYS)
local group, client_id, token, version, facts = unpack(ARGV)
local MAX_FORMER = 16
local FORGOTTEN_AFTER_MS = 60000
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now_ms = string.format('%.0f', math.floor(now_us / 1000))
local function remove_if_empty(consumer)
  if #redis.call('XPENDING', lbs, group, '-', '+', 1, consumer) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', lbs, group, consumer)
  end
end
local met = redis.call('GET', protocol)
if met and met ~= version then
  return { 'PROTOCOL', met }
end
if redis.call('GET', heartbeat) ~= token then
  return 'SESSION_LOST'
end
if not met then
  redis.call('SET', protocol, version)
end
local made = redis.pcall('XGROUP', 'CREATE', lbs, group, '0', 'MKSTREAM')
if made.err and not string.find(made.err, 'BUSYGROUP') then
  redis.call('XGROUP', 'CREATE', lbs, group, '0', 'MKSTREAM') -- refused: this says so, with the line
end
redis.call('XGROUP', 'CREATECONSUMER', lbs, group, client_id .. ':' .. token)
local member = redis.call('HGET', members, client_id) or ''
local tokens = string.match(member, ';(.*)$') or ''
local restarts, began_ms = string.match(member, ' (%d+) (%d+);')
if not restarts then
  restarts, began_ms = 0, now_ms
elseif string.match(tokens, '^%S+') ~= token then
  local forgotten = math.floor((tonumber(now_ms) - tonumber(began_ms)) / FORGOTTEN_AFTER_MS)
  restarts, began_ms = math.max(0, tonumber(restarts) + 1 - forgotten), now_ms
end
local answer, former = { 'OK', tonumber(restarts), 0, 0 }, {}
for earlier in string.gmatch(tokens, '%S+') do
  local consumer = client_id .. ':' .. earlier
  if earlier ~= token and #former < MAX_FORMER then
    if #redis.call('XPENDING', lbs, group, '-', '+', 1, consumer) > 0 then
      former[#former + 1] = earlier
      answer[#answer + 1] = consumer
    else
      redis.call('XGROUP', 'DELCONSUMER', lbs, group, consumer)
    end
  end
end
local entered = string.format('%s %d %s', facts, restarts, began_ms)
redis.call('HSET', members, client_id, entered .. ';' .. table.concat({ token, unpack(former) }, ' '))
answer[3] = redis.call('HLEN', members)
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', lbs)) do
  local facts = {}
  for i = 1, #fields, 2 do
    facts[fields[i]] = fields[i + 1]
  end
  if facts.name == group then
    answer[4] = facts.consumers - answer[3]
  end
end
return answer`

export const buryCopiedLua: string = `local lbs, heartbeat, heartbeat_prefix = unpack(KEYS)
local group, client_id, token, id = unpack(ARGV)
local living = {}
local function is_living(consumer)
  if living[consumer] == nil then
    local client_id, token = string.match(consumer, '^(.*):([^:]+)$')
    living[consumer] = client_id ~= nil and redis.call('GET', heartbeat_prefix .. client_id) == token
  end
  return living[consumer]
end
if redis.call('GET', heartbeat) ~= token then
  return 'SESSION_LOST'
end
local pending = redis.call('XPENDING', lbs, group, id, id, 1)[1]
if not pending then
  return 'GONE'
end
if pending[2] ~= client_id .. ':' .. token and is_living(pending[2]) then
  return 'LEFT'
end
redis.call('XACK', lbs, group, id)
redis.call('XDEL', lbs, id)
return 'BURIED'`

export const buryLua: string = `local lbs, heartbeat, dead, heartbeat_prefix = unpack(KEYS)
local group, client_id, token, dead_max_length = unpack(ARGV, 1, 4)
local consumer = client_id .. ':' .. token
local living = {}
local function is_living(consumer)
  if living[consumer] == nil then
    local client_id, token = string.match(consumer, '^(.*):([^:]+)$')
    living[consumer] = client_id ~= nil and redis.call('GET', heartbeat_prefix .. client_id) == token
  end
  return living[consumer]
end
local bytes_left = 256 * 1024
local function spend(bytes)
  bytes_left = bytes_left - bytes
end
local function is_spent()
  return bytes_left <= 0
end
local function find_entry(id)
  local entry = redis.call('XRANGE', lbs, id, id)[1]
  if entry then
    for _, text in ipairs(entry[2]) do
      spend(#text)
    end
  end
  return entry
end
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now_ms = string.format('%.0f', math.floor(now_us / 1000))
local MOST_LETTERS_TRIMMED = 1000
local function add_dead_letter(id, fields, reason, problem)
  local letter = {
    'reason', reason, 'error', problem, 'id', id, 'fields', cjson.encode(fields), 'client', client_id, 'at', now_ms,
  }
  if dead_max_length == '' then
    redis.call('XADD', dead, '*', unpack(letter))
  else
    redis.call('XADD', dead, 'MAXLEN', '~', dead_max_length, 'LIMIT', MOST_LETTERS_TRIMMED, '*', unpack(letter))
  end
end
if redis.call('GET', heartbeat) ~= token then
  return 'SESSION_LOST'
end
local function bury(id, reason, problem)
  local pending = redis.call('XPENDING', lbs, group, id, id, 1)[1]
  if not pending then
    return 'GONE'
  end
  if pending[2] ~= consumer and is_living(pending[2]) then
    return 'LEFT'
  end
  local entry = find_entry(id)
  if entry then
    add_dead_letter(id, entry[2], reason, problem)
  end
  redis.call('XACK', lbs, group, id)
  redis.call('XDEL', lbs, id)
  return entry and 'BURIED' or 'GONE'
end
local answers = {}
for i = 1, (#ARGV - 4) / 3 do
  if is_spent() then
    break
  end
  answers[i] = bury(unpack(ARGV, 2 + 3 * i, 4 + 3 * i))
end
return answers`

export const commitLua: string = `local heartbeat, locks, checkpoints = unpack(KEYS)
local client_id, token = unpack(ARGV, 1, 2)
local consumer = client_id .. ':' .. token
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
local function write_again()
  local left = redis.call('PTTL', heartbeat)
  if left > 0 then
    redis.call('PEXPIRE', heartbeat, left)
  end
end
local is_alive = redis.call('GET', heartbeat) == token
local function commit(stream, id, fence, number, checkpoint)
  if not is_alive then
    return 'SESSION_LOST'
  end
  local record = read_record(stream)
  if record and record.err then
    return record
  end
  if not record or record.id ~= id or record.fence ~= fence or record.owner ~= consumer then
    return 'NOT_OWNED'
  end
  if number > record.commits then
    redis.call('HSET', checkpoints, stream, checkpoint)
    record.crashes, record.commits = 0, number
    write_record(stream, record)
  else
    write_again()
  end
  return 'OK'
end
local answers = {}
for i = 1, (#ARGV - 2) / 5 do
  local stream, id, fence, number, checkpoint = unpack(ARGV, 5 * i - 2, 5 * i + 2)
  local answer = commit(stream, id, fence, tonumber(number), checkpoint)
  if type(answer) == 'table' then
    return answer
  end
  answers[i] = answer
end
return answers`

export const confirmLua: string = `local lbs, heartbeat, locks = unpack(KEYS)
local group, client_id, token = unpack(ARGV, 1, 3)
local consumer = client_id .. ':' .. token
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
local bytes_left = 256 * 1024
local function spend(bytes)
  bytes_left = bytes_left - bytes
end
local function is_spent()
  return bytes_left <= 0
end
local function find_entry(id)
  local entry = redis.call('XRANGE', lbs, id, id)[1]
  if entry then
    for _, text in ipairs(entry[2]) do
      spend(#text)
    end
  end
  return entry
end
if redis.call('GET', heartbeat) ~= token then
  return 'SESSION_LOST'
end
local function confirm(stream, id, fence)
  local record = read_record(stream)
  if record and record.err then
    return record
  end
  if not record or record.id ~= id or record.fence ~= fence or record.owner ~= consumer then
    return 'LOST'
  end
  if not find_entry(id) then
    return 'GONE'
  end
  local pending = redis.call('XPENDING', lbs, group, id, id, 1)[1]
  if pending and pending[2] ~= consumer then
    redis.call('XCLAIM', lbs, group, consumer, 0, id, 'JUSTID')
  end
  return 'OURS'
end
local answers = {}
for i = 1, (#ARGV - 3) / 3 do
  if is_spent() then
    break
  end
  local stream, id, fence = unpack(ARGV, 1 + 3 * i, 3 + 3 * i)
  local answer = confirm(stream, id, fence)
  if type(answer) == 'table' then
    return answer
  end
  answers[i] = answer
end
return answers`

export const dealLua: string = `local lbs, heartbeat, heartbeat_prefix = unpack(KEYS)
local group, client_id, token, from, count, mode, idle_ms = unpack(ARGV, 1, 7)
local WINDOW = 4
local TIMES_AS_LONG = 4
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now_ms = string.format('%.0f', math.floor(now_us / 1000))
local living = {}
local function is_living(consumer)
  if living[consumer] == nil then
    local client_id, token = string.match(consumer, '^(.*):([^:]+)$')
    living[consumer] = client_id ~= nil and redis.call('GET', heartbeat_prefix .. client_id) == token
  end
  return living[consumer]
end
local function round_up(ms, grid_ms)
  return string.format('%.0f', math.ceil(ms / grid_ms) * grid_ms)
end
local function wait_of(consumer, client_id)
  local passed_by, others_ms, own_ms, times = string.match(consumer, '^pool%-(.+):(%d+)%-(%d+)%-(%d+)$')
  if not passed_by then
    return 0, 0
  end
  local from_ms = tonumber(passed_by == client_id and own_ms or others_ms)
  return math.max(0, from_ms - tonumber(now_ms)), tonumber(times)
end
local bytes_left = 256 * 1024
local function spend(bytes)
  bytes_left = bytes_left - bytes
end
local function is_spent()
  return bytes_left <= 0
end
local function find_entry(id)
  local entry = redis.call('XRANGE', lbs, id, id)[1]
  if entry then
    for _, text in ipairs(entry[2]) do
      spend(#text)
    end
  end
  return entry
end
local function remove_if_empty(consumer)
  if #redis.call('XPENDING', lbs, group, '-', '+', 1, consumer) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', lbs, group, consumer)
  end
end
if redis.call('GET', heartbeat) ~= token then
  return 'SESSION_LOST'
end
if is_living(from) then
  return { 0, 0, 0 }
end
local wait_ms, times = wait_of(from, client_id)
if wait_ms > 0 then
  return { 1, wait_ms, 0 }
end
local function name_for_told()
  local tell_ms, again_ms, greatest_ms = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
  local function after(ms)
    local wait = math.min(ms * 2 ^ math.min(math.floor(times / TIMES_AS_LONG), 30), greatest_ms)
    return round_up(tonumber(now_ms) + wait, math.max(1, wait))
  end
  return string.format('pool-%s:%s-%s-%d', client_id, after(tell_ms), after(again_ms), times + 1)
end
count, idle_ms = tonumber(count), tonumber(idle_ms)
local limit = idle_ms > 0 and count * WINDOW or count
local rows = redis.call('XPENDING', lbs, group, '-', '+', limit + 1, from)
if #rows == 0 then
  redis.call('XGROUP', 'DELCONSUMER', lbs, group, from) -- in most cases whoever took the last entry has done so
  return { 0, 0, 0 }
end
local dealt, ids, gone, is_full = {}, {}, 0, false
for _, row in ipairs(rows) do
  is_full = #ids == count or is_spent()
  if is_full then
    break
  end
  local entry = row[3] >= idle_ms and find_entry(row[1])
  if entry then
    dealt[#dealt + 1] = { entry[1], entry[2], row[3] }
    ids[#ids + 1] = row[1]
  elseif entry == nil then
    redis.call('XACK', lbs, group, row[1])
    gone = gone + 1
  end
end
if #ids > 0 then
  ids[#ids + 1] = 'JUSTID'
  redis.call('XCLAIM', lbs, group, mode == 'take' and client_id .. ':' .. token or name_for_told(), 0, unpack(ids))
end
local may_be_more = is_full or #rows > limit
if not may_be_more then
  remove_if_empty(from)
end
return { may_be_more and 1 or 0, 0, gone, unpack(dealt) }`

export const endSessionLua: string = `local lbs, heartbeat, members, level_key, probe = unpack(KEYS)
local group, client_id, token, channel, level = unpack(ARGV)
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now_ms = string.format('%.0f', math.floor(now_us / 1000))
local function round_up(ms, grid_ms)
  return string.format('%.0f', math.ceil(ms / grid_ms) * grid_ms)
end
local function wait_of(consumer, client_id)
  local passed_by, others_ms, own_ms, times = string.match(consumer, '^pool%-(.+):(%d+)%-(%d+)%-(%d+)$')
  if not passed_by then
    return 0, 0
  end
  local from_ms = tonumber(passed_by == client_id and own_ms or others_ms)
  return math.max(0, from_ms - tonumber(now_ms)), tonumber(times)
end
local function waiting_message(consumer, level)
  local streams, living, first = string.match(level, '^(%S+) (%d+) ?(%S*)')
  return cjson.encode({
    type = 'waiting',
    consumer = consumer,
    level = tonumber(streams) or cjson.null,
    living = tonumber(living) or cjson.null,
    firstLevel = tonumber(first) or cjson.null,
  })
end
local consumer = client_id .. ':' .. token
local removed = 0
if redis.call('GET', heartbeat) == token then
  removed = redis.call('DEL', heartbeat)
end
if redis.call('GET', probe) == client_id then
  redis.call('DEL', probe) -- the next round is anybody's at once
end
local function has_pending(name)
  local pending = redis.pcall('XPENDING', lbs, group, '-', '+', 1, name)
  if not pending.err then
    return #pending > 0
  end
  if string.find(pending.err, 'NOGROUP') then
    return false
  end
end
local function tell(name)
  redis.pcall('PUBLISH', channel, waiting_message(name, level)) -- only a hint: without permission to publish the session ends all the same
end
if channel ~= '' and level == '' then
  level = redis.call('GET', level_key) or ''
end
local has_left_entries = has_pending(consumer)
if has_left_entries then
  if channel ~= '' then
    tell(consumer)
  end
elseif has_left_entries == false then -- XGROUP DELCONSUMER destroys what is pending
  redis.pcall('XGROUP', 'DELCONSUMER', lbs, group, consumer)
  local member = redis.call('HGET', members, client_id)
  if member and string.match(member, ';(.*)$') == token then
    redis.call('HDEL', members, client_id)
  end
end
if channel ~= '' and has_pending('pool:0') then
  tell('pool:0')
end
return removed`

export const finishLua: string = `local lbs, heartbeat, locks, checkpoints = unpack(KEYS, 1, 4)
local group, client_id, token = unpack(ARGV, 1, 3)
local consumer = client_id .. ':' .. token
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
local bytes_left = 256 * 1024
local function spend(bytes)
  bytes_left = bytes_left - bytes
end
local function is_spent()
  return bytes_left <= 0
end
local PADDED_ID_LENGTH = 41
local function waiting_of(first, i)
  return { list = KEYS[first + 2 * i - 2], late = KEYS[first + 2 * i - 1] }
end
local function pad_id(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return string.rep('0', 20 - #ms) .. ms .. '-' .. string.rep('0', 20 - #seq) .. seq
end
local function id_of_waiting(item)
  return string.match(item, '^%["(%d+%-%d+)"')
end
local function push_backlog(waiting, id, fields)
  local item = { id }
  for i = 1, #fields do
    item[i + 1] = fields[i]
  end
  local text = cjson.encode(item)
  local last = redis.call('LINDEX', waiting.list, -1)
  spend(last and #last or 0)
  if not last or is_before(id_of_waiting(last), id) then
    redis.call('RPUSH', waiting.list, text)
  else
    redis.call('ZADD', waiting.late, 0, pad_id(id) .. ' ' .. text)
  end
end
local function shift_backlog(waiting, use)
  local item = redis.call('LINDEX', waiting.list, 0)
  local late = redis.call('ZRANGE', waiting.late, 0, 0)[1]
  spend((item and #item or 0) + (late and #late or 0))
  local is_late = false
  if late then
    late = string.sub(late, PADDED_ID_LENGTH + 2)
    is_late = not item or is_before(id_of_waiting(late), id_of_waiting(item))
  end
  if not item and not late then
    return false
  end
  use(unpack(cjson.decode(is_late and late or item), 2))
  if is_late then
    redis.call('ZREMRANGEBYRANK', waiting.late, 0, 0)
  else
    redis.call('LTRIM', waiting.list, 1, -1)
  end
  return true
end
local function free_stream(stream, waiting, keep_checkpoint)
  local was_waiting = shift_backlog(waiting, function(...)
    local id = redis.call('XADD', lbs, '*', ...)
    write_record(stream, { id = id, fence = '0', since = now_ms, crashes = 0, commits = 0, owner = '' })
  end)
  if not was_waiting then
    redis.call('HDEL', locks, stream)
  end
  if not keep_checkpoint then
    redis.call('HDEL', checkpoints, stream)
  end
end
local function write_again()
  local left = redis.call('PTTL', heartbeat)
  if left > 0 then
    redis.call('PEXPIRE', heartbeat, left)
  end
end
local is_alive = redis.call('GET', heartbeat) == token
local function finish(stream, id, fence, keep_checkpoint, waiting)
  if not is_alive then
    return 'SESSION_LOST'
  end
  local record = read_record(stream)
  if record and record.err then
    return record
  end
  if not record or record.fence ~= fence then
    write_again()
    return 'OK'
  end
  if record.id ~= id or record.owner ~= consumer then
    return 'NOT_OWNED'
  end
  free_stream(stream, waiting, keep_checkpoint)
  redis.call('XACK', lbs, group, id)
  redis.call('XDEL', lbs, id)
  return 'OK'
end
local answers = {}
for i = 1, (#ARGV - 3) / 4 do
  if is_spent() then
    break
  end
  local stream, id, fence, keep = unpack(ARGV, 4 * i, 4 * i + 3)
  local answer = finish(stream, id, fence, keep == '1', waiting_of(5, i))
  if type(answer) == 'table' then
    return answer
  end
  answers[i] = answer
end
return answers`

export const forgetMembersLua: string = `local lbs, heartbeat_prefix, members = unpack(KEYS)
local group = ARGV[1]
local function has_left_entries(client_id, tokens)
  for token in string.gmatch(tokens, '%S+') do
    local pending = redis.pcall('XPENDING', lbs, group, '-', '+', 1, client_id .. ':' .. token)
    if not pending.err and #pending > 0 then
      return true
    end
  end
  return false
end
local forgotten = 0
for i = 2, #ARGV do
  local client_id = ARGV[i]
  local tokens = string.match(redis.call('HGET', members, client_id) or '', ';(.*)$')
  if tokens and not redis.call('GET', heartbeat_prefix .. client_id) and not has_left_entries(client_id, tokens) then
    forgotten = forgotten + redis.call('HDEL', members, client_id)
  end
end
return forgotten`

export const planLua: string = `local plan_key = KEYS[1]
local members, settle_ms, moves, plan, stands_ms, channel, message, is_forced, youngest_ms = unpack(ARGV)
local FIRST_PAUSE_MS, GREATEST_PAUSE_MS = 1000, 60000
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now_ms = string.format('%.0f', math.floor(now_us / 1000))
local now = tonumber(now_ms)
moves = tonumber(moves)
local function field(name)
  return redis.call('HGET', plan_key, name)
end
if field('members') ~= members then
  local began = now - tonumber(youngest_ms)
  local is_new = began > math.max(tonumber(field('seen') or 0), now - tonumber(settle_ms))
  redis.call('DEL', plan_key)
  redis.call('HSET', plan_key, 'members', members, 'since', is_new and string.format('%.0f', began) or now_ms)
end
redis.call('HSET', plan_key, 'seen', now_ms)
redis.call('PEXPIRE', plan_key, stands_ms)
local settled_ms = now - tonumber(field('since'))
if settled_ms < tonumber(settle_ms) then
  return tonumber(settle_ms) - settled_ms
end
local before = tonumber(field('moves') or 0)
local times = tonumber(field('times') or 0)
local wait_ms = tonumber(field('next') or 0) - now
local is_progress = before == 0 or moves < before
if wait_ms > 0 and not is_progress and is_forced ~= '1' then
  return wait_ms
end
times = is_progress and 0 or times + 1
local pause_ms = math.min(FIRST_PAUSE_MS * 2 ^ math.min(times, 10), GREATEST_PAUSE_MS)
redis.call('HSET', plan_key, 'plan', plan, 'moves', moves, 'times', times, 'next', string.format('%.0f', now + pause_ms))
redis.pcall('PUBLISH', channel, message) -- only a hint: without permission to publish the plan is stored all the same
return 0`

export const probeLua: string = `local lbs, heartbeat_prefix, members, probe, level = unpack(KEYS)
local group, silent_ms = ARGV[1], tonumber(ARGV[2])
if not redis.call('SET', probe, ARGV[3], 'NX', 'PX', ARGV[4]) then
  return redis.call('GET', level) or ''
end
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now_ms = string.format('%.0f', math.floor(now_us / 1000))
local living = {}
local function is_living(consumer)
  if living[consumer] == nil then
    local client_id, token = string.match(consumer, '^(.*):([^:]+)$')
    living[consumer] = client_id ~= nil and redis.call('GET', heartbeat_prefix .. client_id) == token
  end
  return living[consumer]
end
local function read_consumers()
  local consumers = redis.pcall('XINFO', 'CONSUMERS', lbs, group)
  if not consumers.err then
    return consumers
  end
  if string.find(consumers.err, 'NOGROUP') or string.find(consumers.err, 'no such key') then
    return {}
  end
  return redis.call('XINFO', 'CONSUMERS', lbs, group) -- refused: this says so, with the line
end
local function round_up(ms, grid_ms)
  return string.format('%.0f', math.ceil(ms / grid_ms) * grid_ms)
end
local function wait_of(consumer, client_id)
  local passed_by, others_ms, own_ms, times = string.match(consumer, '^pool%-(.+):(%d+)%-(%d+)%-(%d+)$')
  if not passed_by then
    return 0, 0
  end
  local from_ms = tonumber(passed_by == client_id and own_ms or others_ms)
  return math.max(0, from_ms - tonumber(now_ms)), tonumber(times)
end
local KEYS_A_READ = 1000
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
return { redis.call('XLEN', lbs), read_roster(true) }`

export const releaseLua: string = `local heartbeat, locks, lbs, level_key, checkpoints = unpack(KEYS, 1, 5)
local client_id, token, group, channel, pool_or_ms, level = unpack(ARGV, 1, 6)
local FIRST, FIRST_BACKLOG = 7, 6
local consumer = client_id .. ':' .. token
local NAMES_AT_A_TIME = 4
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now_ms = string.format('%.0f', math.floor(now_us / 1000))
local function round_up(ms, grid_ms)
  return string.format('%.0f', math.ceil(ms / grid_ms) * grid_ms)
end
local function wait_of(consumer, client_id)
  local passed_by, others_ms, own_ms, times = string.match(consumer, '^pool%-(.+):(%d+)%-(%d+)%-(%d+)$')
  if not passed_by then
    return 0, 0
  end
  local from_ms = tonumber(passed_by == client_id and own_ms or others_ms)
  return math.max(0, from_ms - tonumber(now_ms)), tonumber(times)
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
local function is_before(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  if #a_ms ~= #b_ms then return #a_ms < #b_ms end
  if a_ms ~= b_ms then return a_ms < b_ms end
  if #a_seq ~= #b_seq then return #a_seq < #b_seq end
  return a_seq < b_seq
end
local bytes_left = 256 * 1024
local function spend(bytes)
  bytes_left = bytes_left - bytes
end
local function is_spent()
  return bytes_left <= 0
end
local PADDED_ID_LENGTH = 41
local function waiting_of(first, i)
  return { list = KEYS[first + 2 * i - 2], late = KEYS[first + 2 * i - 1] }
end
local function pad_id(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return string.rep('0', 20 - #ms) .. ms .. '-' .. string.rep('0', 20 - #seq) .. seq
end
local function id_of_waiting(item)
  return string.match(item, '^%["(%d+%-%d+)"')
end
local function push_backlog(waiting, id, fields)
  local item = { id }
  for i = 1, #fields do
    item[i + 1] = fields[i]
  end
  local text = cjson.encode(item)
  local last = redis.call('LINDEX', waiting.list, -1)
  spend(last and #last or 0)
  if not last or is_before(id_of_waiting(last), id) then
    redis.call('RPUSH', waiting.list, text)
  else
    redis.call('ZADD', waiting.late, 0, pad_id(id) .. ' ' .. text)
  end
end
local function shift_backlog(waiting, use)
  local item = redis.call('LINDEX', waiting.list, 0)
  local late = redis.call('ZRANGE', waiting.late, 0, 0)[1]
  spend((item and #item or 0) + (late and #late or 0))
  local is_late = false
  if late then
    late = string.sub(late, PADDED_ID_LENGTH + 2)
    is_late = not item or is_before(id_of_waiting(late), id_of_waiting(item))
  end
  if not item and not late then
    return false
  end
  use(unpack(cjson.decode(is_late and late or item), 2))
  if is_late then
    redis.call('ZREMRANGEBYRANK', waiting.late, 0, 0)
  else
    redis.call('LTRIM', waiting.list, 1, -1)
  end
  return true
end
local function free_stream(stream, waiting, keep_checkpoint)
  local was_waiting = shift_backlog(waiting, function(...)
    local id = redis.call('XADD', lbs, '*', ...)
    write_record(stream, { id = id, fence = '0', since = now_ms, crashes = 0, commits = 0, owner = '' })
  end)
  if not was_waiting then
    redis.call('HDEL', locks, stream)
  end
  if not keep_checkpoint then
    redis.call('HDEL', checkpoints, stream)
  end
end
local function find_entry(id)
  local entry = redis.call('XRANGE', lbs, id, id)[1]
  if entry then
    for _, text in ipairs(entry[2]) do
      spend(#text)
    end
  end
  return entry
end
local function write_again()
  local left = redis.call('PTTL', heartbeat)
  if left > 0 then
    redis.call('PEXPIRE', heartbeat, left)
  end
end
local function waiting_message(consumer, level)
  local streams, living, first = string.match(level, '^(%S+) (%d+) ?(%S*)')
  return cjson.encode({
    type = 'waiting',
    consumer = consumer,
    level = tonumber(streams) or cjson.null,
    living = tonumber(living) or cjson.null,
    firstLevel = tonumber(first) or cjson.null,
  })
end
local is_alive = redis.call('GET', heartbeat) == token
local released, streams, backlogs = {}, {}, {}
local function release(waiting, stream, id, fence)
  if not is_alive then
    return 'SESSION_LOST'
  end
  local record = read_record(stream)
  if record and record.err then
    return record
  end
  if not record or record.fence ~= fence or record.owner == '' then
    write_again()
    return 'OK'
  end
  if record.id ~= id or record.owner ~= consumer then
    return 'NOT_OWNED'
  end
  record.owner, record.crashes = '', 0
  write_record(stream, record)
  released[#released + 1] = id
  streams[id], backlogs[id] = stream, waiting
  return 'OK'
end
local function pool_name()
  local ms = tonumber(pool_or_ms)
  if not ms then
    return pool_or_ms
  end
  local until_ms = round_up(tonumber(now_ms) + ms, math.ceil(ms / NAMES_AT_A_TIME))
  return string.format('pool-%s:0-%s-0', client_id, until_ms)
end
local answers = {}
for i = 1, (#ARGV - FIRST + 1) / 3 do
  local at = FIRST + 3 * (i - 1)
  local answer = release(waiting_of(FIRST_BACKLOG, i), unpack(ARGV, at, at + 2))
  if type(answer) == 'table' then
    return answer
  end
  answers[i] = answer
end
if #released > 0 then
  local pool = pool_name()
  table.insert(released, 'JUSTID')
  redis.call('XCLAIM', lbs, group, pool, 0, unpack(released))
  for id, stream in pairs(streams) do
    if not is_spent() and not find_entry(id) then
      free_stream(stream, backlogs[id])
      redis.call('XACK', lbs, group, id) -- before Redis 7 XCLAIM moves also what has left the LBS
    end
  end
  if level == '' then
    level = redis.call('GET', level_key) or ''
  end
  redis.pcall('PUBLISH', channel, waiting_message(pool, level)) -- only a hint: without permission to publish the streams are released all the same
end
return answers`

export const removeConsumersLua: string = `local lbs, heartbeat_prefix = unpack(KEYS)
local group = ARGV[1]
local living = {}
local function is_living(consumer)
  if living[consumer] == nil then
    local client_id, token = string.match(consumer, '^(.*):([^:]+)$')
    living[consumer] = client_id ~= nil and redis.call('GET', heartbeat_prefix .. client_id) == token
  end
  return living[consumer]
end
local function remove(consumer)
  if is_living(consumer) then
    return 'ALIVE'
  end
  if #redis.call('XPENDING', lbs, group, '-', '+', 1, consumer) > 0 then
    return 'PENDING'
  end
  redis.call('XGROUP', 'DELCONSUMER', lbs, group, consumer)
  return 'REMOVED'
end
local answers = {}
for i = 2, #ARGV do
  answers[i - 1] = remove(ARGV[i])
end
return answers`

export const replayDeadLua: string = `local dead, lbs = unpack(KEYS)
local id = ARGV[1]
local MAX_VALUES = 7000
local letter = redis.call('XRANGE', dead, id, id)[1]
if not letter then
  return { 'GONE' }
end
local text
for i = 1, #letter[2], 2 do
  if letter[2][i] == 'fields' then
    text = letter[2][i + 1]
    break
  end
end
local is_json, fields = pcall(cjson.decode, text)
if not is_json or type(fields) ~= 'table' or #fields == 0 or #fields % 2 == 1 then
  return { 'REFUSED', 'it does not hold the fields of an entry' }
end
for i = 1, #fields do
  if type(fields[i]) ~= 'string' then
    return { 'REFUSED', 'it does not hold the fields of an entry' }
  end
end
if #fields > MAX_VALUES then
  return { 'LARGE' }
end
local added = redis.call('XADD', lbs, '*', unpack(fields))
redis.call('XDEL', dead, id)
return { 'ADDED', added }`

export const rosterLua: string = `local lbs, heartbeat_prefix, members = unpack(KEYS)
local group, silent_ms = ARGV[1], tonumber(ARGV[2])
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now_ms = string.format('%.0f', math.floor(now_us / 1000))
local living = {}
local function is_living(consumer)
  if living[consumer] == nil then
    local client_id, token = string.match(consumer, '^(.*):([^:]+)$')
    living[consumer] = client_id ~= nil and redis.call('GET', heartbeat_prefix .. client_id) == token
  end
  return living[consumer]
end
local function read_consumers()
  local consumers = redis.pcall('XINFO', 'CONSUMERS', lbs, group)
  if not consumers.err then
    return consumers
  end
  if string.find(consumers.err, 'NOGROUP') or string.find(consumers.err, 'no such key') then
    return {}
  end
  return redis.call('XINFO', 'CONSUMERS', lbs, group) -- refused: this says so, with the line
end
local function round_up(ms, grid_ms)
  return string.format('%.0f', math.ceil(ms / grid_ms) * grid_ms)
end
local function wait_of(consumer, client_id)
  local passed_by, others_ms, own_ms, times = string.match(consumer, '^pool%-(.+):(%d+)%-(%d+)%-(%d+)$')
  if not passed_by then
    return 0, 0
  end
  local from_ms = tonumber(passed_by == client_id and own_ms or others_ms)
  return math.max(0, from_ms - tonumber(now_ms)), tonumber(times)
end
local KEYS_A_READ = 1000
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
return read_roster(ARGV[3] == '1')`

export const sweepLua: string = `local lbs, locks, checkpoints, heartbeat_prefix = unpack(KEYS, 1, 4)
local group = ARGV[1]
local living = {}
local function is_living(consumer)
  if living[consumer] == nil then
    local client_id, token = string.match(consumer, '^(.*):([^:]+)$')
    living[consumer] = client_id ~= nil and redis.call('GET', heartbeat_prefix .. client_id) == token
  end
  return living[consumer]
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
local bytes_left = 256 * 1024
local function spend(bytes)
  bytes_left = bytes_left - bytes
end
local function is_spent()
  return bytes_left <= 0
end
local PADDED_ID_LENGTH = 41
local function waiting_of(first, i)
  return { list = KEYS[first + 2 * i - 2], late = KEYS[first + 2 * i - 1] }
end
local function pad_id(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return string.rep('0', 20 - #ms) .. ms .. '-' .. string.rep('0', 20 - #seq) .. seq
end
local function id_of_waiting(item)
  return string.match(item, '^%["(%d+%-%d+)"')
end
local function push_backlog(waiting, id, fields)
  local item = { id }
  for i = 1, #fields do
    item[i + 1] = fields[i]
  end
  local text = cjson.encode(item)
  local last = redis.call('LINDEX', waiting.list, -1)
  spend(last and #last or 0)
  if not last or is_before(id_of_waiting(last), id) then
    redis.call('RPUSH', waiting.list, text)
  else
    redis.call('ZADD', waiting.late, 0, pad_id(id) .. ' ' .. text)
  end
end
local function shift_backlog(waiting, use)
  local item = redis.call('LINDEX', waiting.list, 0)
  local late = redis.call('ZRANGE', waiting.late, 0, 0)[1]
  spend((item and #item or 0) + (late and #late or 0))
  local is_late = false
  if late then
    late = string.sub(late, PADDED_ID_LENGTH + 2)
    is_late = not item or is_before(id_of_waiting(late), id_of_waiting(item))
  end
  if not item and not late then
    return false
  end
  use(unpack(cjson.decode(is_late and late or item), 2))
  if is_late then
    redis.call('ZREMRANGEBYRANK', waiting.late, 0, 0)
  else
    redis.call('LTRIM', waiting.list, 1, -1)
  end
  return true
end
local function free_stream(stream, waiting, keep_checkpoint)
  local was_waiting = shift_backlog(waiting, function(...)
    local id = redis.call('XADD', lbs, '*', ...)
    write_record(stream, { id = id, fence = '0', since = now_ms, crashes = 0, commits = 0, owner = '' })
  end)
  if not was_waiting then
    redis.call('HDEL', locks, stream)
  end
  if not keep_checkpoint then
    redis.call('HDEL', checkpoints, stream)
  end
end
local function find_entry(id)
  local entry = redis.call('XRANGE', lbs, id, id)[1]
  if entry then
    for _, text in ipairs(entry[2]) do
      spend(#text)
    end
  end
  return entry
end
local function sweep(stream, waiting)
  local record = read_record(stream)
  if not record or record.err or is_living(record.owner) or find_entry(record.id) then
    return 0
  end
  free_stream(stream, waiting)
  redis.call('XACK', lbs, group, record.id)
  return 1
end
local answers = {}
for i = 1, #ARGV - 1 do
  if is_spent() then
    break
  end
  answers[i] = sweep(ARGV[1 + i], waiting_of(5, i))
end
return answers`

export const takeLua: string = `local lbs, heartbeat, locks, fence_key, checkpoints, dead, heartbeat_prefix = unpack(KEYS, 1, 7)
local group, client_id, token, mode = unpack(ARGV, 1, 4)
local max_crashes, crash_window_ms, stranded_ms = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local dead_max_length = ARGV[9]
local entries = (#ARGV - 9) / 3
local consumer = client_id .. ':' .. token
local MAX_QUEUED_VALUES = 7000
local living = {}
local function is_living(consumer)
  if living[consumer] == nil then
    local client_id, token = string.match(consumer, '^(.*):([^:]+)$')
    living[consumer] = client_id ~= nil and redis.call('GET', heartbeat_prefix .. client_id) == token
  end
  return living[consumer]
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
local bytes_left = 256 * 1024
local function spend(bytes)
  bytes_left = bytes_left - bytes
end
local function is_spent()
  return bytes_left <= 0
end
local PADDED_ID_LENGTH = 41
local function waiting_of(first, i)
  return { list = KEYS[first + 2 * i - 2], late = KEYS[first + 2 * i - 1] }
end
local function pad_id(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return string.rep('0', 20 - #ms) .. ms .. '-' .. string.rep('0', 20 - #seq) .. seq
end
local function id_of_waiting(item)
  return string.match(item, '^%["(%d+%-%d+)"')
end
local function push_backlog(waiting, id, fields)
  local item = { id }
  for i = 1, #fields do
    item[i + 1] = fields[i]
  end
  local text = cjson.encode(item)
  local last = redis.call('LINDEX', waiting.list, -1)
  spend(last and #last or 0)
  if not last or is_before(id_of_waiting(last), id) then
    redis.call('RPUSH', waiting.list, text)
  else
    redis.call('ZADD', waiting.late, 0, pad_id(id) .. ' ' .. text)
  end
end
local function shift_backlog(waiting, use)
  local item = redis.call('LINDEX', waiting.list, 0)
  local late = redis.call('ZRANGE', waiting.late, 0, 0)[1]
  spend((item and #item or 0) + (late and #late or 0))
  local is_late = false
  if late then
    late = string.sub(late, PADDED_ID_LENGTH + 2)
    is_late = not item or is_before(id_of_waiting(late), id_of_waiting(item))
  end
  if not item and not late then
    return false
  end
  use(unpack(cjson.decode(is_late and late or item), 2))
  if is_late then
    redis.call('ZREMRANGEBYRANK', waiting.late, 0, 0)
  else
    redis.call('LTRIM', waiting.list, 1, -1)
  end
  return true
end
local function free_stream(stream, waiting, keep_checkpoint)
  local was_waiting = shift_backlog(waiting, function(...)
    local id = redis.call('XADD', lbs, '*', ...)
    write_record(stream, { id = id, fence = '0', since = now_ms, crashes = 0, commits = 0, owner = '' })
  end)
  if not was_waiting then
    redis.call('HDEL', locks, stream)
  end
  if not keep_checkpoint then
    redis.call('HDEL', checkpoints, stream)
  end
end
local function find_entry(id)
  local entry = redis.call('XRANGE', lbs, id, id)[1]
  if entry then
    for _, text in ipairs(entry[2]) do
      spend(#text)
    end
  end
  return entry
end
local MOST_LETTERS_TRIMMED = 1000
local function add_dead_letter(id, fields, reason, problem)
  local letter = {
    'reason', reason, 'error', problem, 'id', id, 'fields', cjson.encode(fields), 'client', client_id, 'at', now_ms,
  }
  if dead_max_length == '' then
    redis.call('XADD', dead, '*', unpack(letter))
  else
    redis.call('XADD', dead, 'MAXLEN', '~', dead_max_length, 'LIMIT', MOST_LETTERS_TRIMMED, '*', unpack(letter))
  end
end
local function remove_if_empty(consumer)
  if #redis.call('XPENDING', lbs, group, '-', '+', 1, consumer) == 0 then
    redis.call('XGROUP', 'DELCONSUMER', lbs, group, consumer)
  end
end
if redis.call('GET', heartbeat) ~= token then
  return 'SESSION_LOST'
end
local former = {}
for text in string.gmatch(ARGV[8], '%S+') do
  former[text] = true
end
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
local function has_fallen(record)
  return record.owner ~= '' and not former[string.match(record.owner, '[^:]*$')]
end
local function count_crashes(record)
  if not has_fallen(record) then
    return record.crashes
  end
  return tonumber(now_ms) - tonumber(record.since) < crash_window_ms and record.crashes + 1 or 0
end
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
return answers`
