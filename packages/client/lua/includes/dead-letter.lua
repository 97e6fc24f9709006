-- Writes an entry to the dead letters. Removing it from the LBS is left to the caller, after this.
-- All its fields are kept, in their order, as a JSON array [field, value, ...] whose strings hold their bytes unchanged.
-- Trimming is approximate (whole nodes of the stream), and at most so many letters at a time.
-- Needs: dead, client_id, dead_max_length ('' for no limit).
--- @include clock
local MOST_LETTERS_TRIMMED = 1000
local function add_dead_letter(id, fields, reason, problem)
  local letter = {
    'reason', reason, 'error', problem, 'id', id, 'fields', cjson.encode(fields), 'client', client_id, 'at', now_ms,
  }
  if dead_max_length == '' then
    redis.call('XADD', dead, '*', unpack(letter))
  else
    redis.call('XADD', dead, 'MAXLEN', '~', dead_max_length, 'LIMIT', MOST_LETTERS_TRIMMED, '*', unpack(letter))
  end
end
