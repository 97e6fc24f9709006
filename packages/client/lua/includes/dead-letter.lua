-- Writes an entry to the dead letters. Removing it from the LBS is left to the caller, after this.
-- Needs: dead, client_id.
--- @include clock
local function add_dead_letter(id, fields, reason, problem)
  local object = {}
  for i = 1, #fields, 2 do
    object[fields[i]] = fields[i + 1]
  end
  redis.call('XADD', dead, '*',
    'reason', reason, 'error', problem, 'id', id, 'fields', cjson.encode(object), 'client', client_id, 'at', now_ms
  )
end
