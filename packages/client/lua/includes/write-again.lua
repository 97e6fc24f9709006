-- For a call whose first try has written everything already: writes the TTL of the session's key as it is.
-- Since Redis 7.2 WAIT knows only of what its own connection has written, and a second try comes over another.
-- Needs: heartbeat.
local function write_again()
  local left = redis.call('PTTL', heartbeat)
  if left > 0 then
    redis.call('PEXPIRE', heartbeat, left)
  end
end
