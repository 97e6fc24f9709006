-- How far the end of data streams is from the positions of their owners.
--
-- KEYS  1.. data streams
-- ARGV  1 how many records are counted at most  2.. position of each stream, as the id after it: `<ms>-<seq + 1>`
-- Returns for each {records after the position, counted up to the limit, id of the last record or false}
local limit = ARGV[1]
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
return answers
