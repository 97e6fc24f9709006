-- The message that tells clients that entries wait for an owner under a consumer.
-- `level` is '<level> <living clients>', see decisions/water-level.ts, or '' where it is not known.
local function waiting_message(consumer, level)
  local streams, living = string.match(level, '^(%S+) (%d+)$')
  return cjson.encode({
    type = 'waiting',
    consumer = consumer,
    level = tonumber(streams) or cjson.null,
    living = tonumber(living) or cjson.null,
  })
end
