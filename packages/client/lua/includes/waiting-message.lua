-- The message that tells clients that entries wait for an owner under a consumer.
-- `level` is '<level> <living clients>', and perhaps ' <level of those that come first>', see decisions/water-level.ts;
-- '' where it is not known.
local function waiting_message(consumer, level)
  local streams, living, first = string.match(level, '^(%S+) (%d+) ?(%S*)')
  return cjson.encode({
    type = 'waiting',
    consumer = consumer,
    level = tonumber(streams) or cjson.null,
    living = tonumber(living) or cjson.null,
    firstLevel = tonumber(first) or cjson.null,
  })
end
