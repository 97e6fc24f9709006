-- The ids of a stream's entries from `from` on, until `limit` of them or more than `greatest_bytes` were read. Redis hands
-- whole entries to a script, and their sizes vary, so they are read in growing steps.
-- Returns the ids, 1 if there are no more, else 0, and the bytes that were read.
-- What an entry or a word costs beside its bytes.
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
