-- Begins to serve a session whose heartbeat key is taken: makes the group and its consumer where missing, enters what
-- the others need to know of the client, and answers what is left of its earlier sessions.
-- Safe to send again.
--
-- KEYS  1 LBS  2 own heartbeat  3 members  4 protocol
-- ARGV  1 group  2 client id  3 token  4 protocol version  5 what the others need to know: no space at its ends
-- Returns 'SESSION_LOST', {'PROTOCOL', version} where the service is used by clients of another protocol,
--   or {'OK', how often its sessions have begun of late, how many clients there are, how many consumers the group has
--   beyond one for each client, consumers of its earlier sessions that have entries pending ...}
local lbs, heartbeat, members, protocol = unpack(KEYS)
local group, client_id, token, version, facts = unpack(ARGV)
local MAX_FORMER = 16
-- A beginning is forgotten after so long.
local FORGOTTEN_AFTER_MS = 60000
--- @include clock
--- @include remove-consumer

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

-- A member is `<facts> <restarts> <began ms>;<token> <tokens of earlier sessions>`.
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
return answer
