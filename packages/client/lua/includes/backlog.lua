-- The backlog of a data stream, in two keys, so that adding and removing cost the same however many entries wait:
--   waiting.list  a list of JSON arrays [original id, field, value, ...], in the order of the ids. Nearly all arrive in
--                 that order and are appended.
--   waiting.late  a sorted set of those that arrived after a later one. All scores are 0: Redis orders members by their
--                 bytes, and each begins with its id, both parts padded to 20 digits, and a space.
-- The first of the backlog is the one with the smaller id of the two first.
--- @include entry-id
--- @include budget
local PADDED_ID_LENGTH = 41

-- The keys of the stream number i of a call; those of the first are KEYS[first] and the one after.
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

-- Hands the fields of the first of the backlog to `use`, then removes it. Answers false if nothing waits.
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
