-- The lock record of a data stream: `<LBS id> <fence> <since ms> <crashes> <commits> <consumer>`.
-- An empty consumer means: reserved for that LBS id. Fence 0 means: nobody has owned it under that id yet.
-- Needs: locks.
local function parse_record(text)
  local id, fence, since, crashes, commits, owner = string.match(text, '^(%S+) (%S+) (%S+) (%S+) (%S+) (.*)$')
  if not id then
    return redis.error_reply('ERR damaged lock record: ' .. text)
  end
  return {
    id = id,
    fence = fence,
    since = since,
    crashes = tonumber(crashes),
    commits = tonumber(commits),
    owner = owner,
  }
end

local function read_record(stream)
  local text = redis.call('HGET', locks, stream)
  return text and parse_record(text) or nil
end

local function format_record(record)
  return string.format(
    '%s %s %s %.0f %.0f %s',
    record.id, record.fence, record.since, record.crashes, record.commits, record.owner
  )
end

local function write_record(stream, record)
  redis.call('HSET', locks, stream, format_record(record))
end
