-- Ends a session: its heartbeat key goes, if it still is its own. Its consumer goes as well if nothing is pending under
-- it: a fleet that begins again and again must not leave a consumer behind each time. Should a read that was given up
-- bring the consumer back, it is found like any other dead one.
--
-- KEYS  1 LBS  2 own heartbeat  3 members  4 level  5 probe
-- ARGV  1 group  2 client id  3 token
--       4 channel on which to say that entries are left, under the consumer or in the pool; '' to say nothing
--       5 the level and the number of living clients to tell, or '': those of the level key
-- Returns 1 if the key was there, else 0.
local lbs, heartbeat, members, level_key, probe = unpack(KEYS)
local group, client_id, token, channel, level = unpack(ARGV)
--- @include clock
--- @include waiting
--- @include waiting-message
local consumer = client_id .. ':' .. token
local removed = 0
if redis.call('GET', heartbeat) == token then
  removed = redis.call('DEL', heartbeat)
end
if redis.call('GET', probe) == client_id then
  redis.call('DEL', probe) -- the next round is anybody's at once
end
-- Nil where it cannot be seen.
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
return removed
