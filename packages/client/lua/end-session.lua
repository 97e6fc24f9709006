-- Ends a session: its heartbeat key goes, if it still is its own. Its consumer goes as well if nothing is pending under
-- it: a fleet that begins again and again must not leave a consumer behind each time. Else the others are told that it
-- is dead. Should a read that was given up bring the consumer back, it is found like any other dead one.
--
-- KEYS  1 LBS  2 own heartbeat
-- ARGV  1 group  2 client id  3 token  4 channel  5 message
-- Returns 1 if the key was there, else 0.
local lbs, heartbeat = unpack(KEYS)
local group, client_id, token, channel, message = unpack(ARGV)
local consumer = client_id .. ':' .. token
local removed = 0
if redis.call('GET', heartbeat) == token then
  removed = redis.call('DEL', heartbeat)
end
local pending = redis.pcall('XPENDING', lbs, group, '-', '+', 1, consumer)
if #pending > 0 then
  redis.pcall('PUBLISH', channel, message) -- a hint: whoever may not publish has ended all the same
elseif not pending.err then
  redis.call('XGROUP', 'DELCONSUMER', lbs, group, consumer)
end
return removed
