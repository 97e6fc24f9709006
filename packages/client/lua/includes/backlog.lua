-- The backlog of a data stream: a list of JSON arrays [original id, field, value, ...], in the order of the ids.
--- @include entry-id
local function push_backlog(backlog, id, fields)
  local item = { id }
  for i = 1, #fields do
    item[i + 1] = fields[i]
  end
  local text = cjson.encode(item)
  local index = -1
  local at = redis.call('LINDEX', backlog, index)
  while at and is_before(id, cjson.decode(at)[1]) do
    index = index - 1
    at = redis.call('LINDEX', backlog, index)
  end
  if not at then
    redis.call('LPUSH', backlog, text)
  elseif index == -1 then
    redis.call('RPUSH', backlog, text)
  else
    redis.call('LINSERT', backlog, 'AFTER', at, text)
  end
end
