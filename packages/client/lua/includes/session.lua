-- Whether a consumer is alive. A consumer `<client id>:<token>` is alive while the heartbeat key of its client id holds its token.
-- Needs: heartbeat_prefix. The key of another client's heartbeat is built here, because its id is known only
-- once the record or the pending entry has been read; it lies in the service's slot like all the others.
local living = {}
local function is_living(consumer)
  if living[consumer] == nil then
    local client_id, token = string.match(consumer, '^(.*):([^:]+)$')
    living[consumer] = client_id ~= nil and redis.call('GET', heartbeat_prefix .. client_id) == token
  end
  return living[consumer]
end
