-- Gives out one dead letter of which the application has to be told: one whose call failed and is due again, or a new one.
-- A letter is pending in the group from the first call until it is acknowledged; its delivery count is the number of calls.
--
-- KEYS  1 dead records
-- ARGV  1 group  2 consumer  3 delay after the first call (ms)  4 factor for each further call  5 greatest delay (ms)
--       6 where to go on among those that are pending  7 how many of them are looked at
-- Returns {id or false, number of this call, where to go on the next time}
local dead = KEYS[1]
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
return { read and read[1][2][1][1] or false, 1, cursor }
