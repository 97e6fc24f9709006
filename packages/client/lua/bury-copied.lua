-- Removes an entry whose copy is in the dead letters already, if it is pending under this session or a dead one. The client
-- has copied it with plain commands: a script that did it would keep Redis from everybody else for as long as it takes.
-- Safe to send again: an entry that is not pending any more has been removed.
--
-- KEYS  1 LBS  2 own heartbeat  3 prefix of the heartbeat keys
-- ARGV  1 group  2 client id  3 token  4 LBS id
-- Returns 'SESSION_LOST', 'BURIED', 'GONE' (not pending) or 'LEFT' (another's).
local lbs, heartbeat, heartbeat_prefix = unpack(KEYS)
local group, client_id, token, id = unpack(ARGV)
--- @include session

if redis.call('GET', heartbeat) ~= token then
  return 'SESSION_LOST'
end
local pending = redis.call('XPENDING', lbs, group, id, id, 1)[1]
if not pending then
  return 'GONE'
end
if pending[2] ~= client_id .. ':' .. token and is_living(pending[2]) then
  return 'LEFT'
end
redis.call('XACK', lbs, group, id)
redis.call('XDEL', lbs, id)
return 'BURIED'
