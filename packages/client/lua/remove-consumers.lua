-- Removes consumers of dead sessions from the group, if nothing is pending under them. XGROUP DELCONSUMER destroys
-- pending entries, so looking and removing are one step. Its work depends on how many names it is given, and not on how
-- many consumers the group has.
--
-- KEYS  1 LBS  2 prefix of the heartbeat keys
-- ARGV  1 group  2.. names of consumers
-- Returns for each 'REMOVED' (also if there was none), 'ALIVE' or 'PENDING' (dead, with entries pending under it).
local lbs, heartbeat_prefix = unpack(KEYS)
local group = ARGV[1]
--- @include session

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
return answers
