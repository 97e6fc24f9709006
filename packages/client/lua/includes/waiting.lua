-- Consumers under which entries wait for an owner. No client ever has such a name, so they count as dead everywhere:
--   pool:0                                            anybody may have them: their owner leaves or has no room
--   pool:1                                            anybody may have them: their owner had more than its share
--   pool-<client id>:<others ms>-<own ms>-<times>     that client was given them and did not keep them: the others may
--                                                     have them from the first moment on, that client from the second
-- Moments are milliseconds of the server's clock, rounded up, so that what is put away together waits under one name.
-- Needs: now_ms (includes/clock.lua).
local function round_up(ms, grid_ms)
  return string.format('%.0f', math.ceil(ms / grid_ms) * grid_ms)
end

-- Milliseconds until this client may have what waits under a consumer, and how often it has been passed on.
local function wait_of(consumer, client_id)
  local passed_by, others_ms, own_ms, times = string.match(consumer, '^pool%-(.+):(%d+)%-(%d+)%-(%d+)$')
  if not passed_by then
    return 0, 0
  end
  local from_ms = tonumber(passed_by == client_id and own_ms or others_ms)
  return math.max(0, from_ms - tonumber(now_ms)), tonumber(times)
end
