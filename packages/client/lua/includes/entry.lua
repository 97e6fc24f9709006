-- Reads one entry of the LBS.
-- Needs: lbs.
--- @include budget
local function find_entry(id)
  local entry = redis.call('XRANGE', lbs, id, id)[1]
  if entry then
    for _, text in ipairs(entry[2]) do
      spend(#text)
    end
  end
  return entry
end
