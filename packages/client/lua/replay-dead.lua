-- Adds the entry of a dead letter to the LBS again, with every field as it was, then removes the letter.
-- Safe to send again: a letter that is gone has been replayed or dropped.
--
-- KEYS  1 dead letters  2 LBS
-- ARGV  1 id of the dead letter
-- Returns {'ADDED', LBS id}, {'GONE'}, or, without having changed anything, {'REFUSED', why} or {'LARGE'} (more fields than
-- a script can add: the caller adds them itself)
local dead, lbs = unpack(KEYS)
local id = ARGV[1]
-- The fields are added with unpack, which takes about 8000 values.
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
return { 'ADDED', added }
