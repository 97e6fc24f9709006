-- Bounds the bytes that one call of a script moves: entries may be large, and Redis serves nobody else meanwhile.
-- A script that has spent its budget stops before the next entry and answers only for those before it.
local bytes_left = 256 * 1024
local function spend(bytes)
  bytes_left = bytes_left - bytes
end

local function is_spent()
  return bytes_left <= 0
end
