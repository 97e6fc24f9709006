-- Looks at data streams: how much lies behind the positions of their owners, and what has become of them.
-- Redis hands whole records to a script, so they are counted in steps, up to a number of them and of bytes, and the caller
-- estimates the rest. No more streams are looked at once those of the call have cost too much.
--
-- KEYS  1.. data streams
-- ARGV  1 how many records are counted at most  2 how many bytes are read to count those of one stream
--       3 after how many bytes no other stream is begun  4.. position of each stream
-- Returns for each stream, as far as it came (for the first at least), false if there is no stream of that name, or
--   {length, id of the first record or false, id of the last or false, greatest id it ever had,
--    records that were ever added to it, -1 on a server before 7.0 that does not know,
--    records after the position as far as they were counted, 1 if that is all of them, else 0}
local limit, stream_bytes, call_bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local spent = 0
--- @include entry-id
--- @include read-ids

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
return answers
