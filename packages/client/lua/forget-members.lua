-- Forgets members that are no more: no session of theirs lives, and none has left entries.
--
-- KEYS  1 LBS  2 prefix of the heartbeat keys  3 members
-- ARGV  1 group  2.. client ids
-- Returns how many were forgotten.
local lbs, heartbeat_prefix, members = unpack(KEYS)
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
return forgotten
