-- Executes commands and stores the checkpoint of a data stream, both or neither, if the caller owns the stream.
-- Redis has no rollback: a command it refuses ends the script, and what earlier commands of the call did remains.
-- Safe to send again: a call with the number that was stored last has been executed.
--
-- KEYS  1 own heartbeat  2 locks  3 checkpoints  4.. the keys of the commands
-- ARGV  1 client id  2 token  3 data stream name  4 LBS id  5 fence  6 number of the commit  7 checkpoint
--       8.. of each command: how many words it has, then those
-- Returns {'OK', {reply of each command}}  executed
--         {'DONE'}                          an earlier try was executed, its answer was lost
--         {'STALE'}                         a later commit was executed before this one: nothing changed
--         {'REFUSED', index, error}         command number `index` (from 1) failed: checkpoint unchanged
--         {'SESSION_LOST'}, {'NOT_OWNED'}   nothing changed
local heartbeat, locks, checkpoints = unpack(KEYS, 1, 3)
local client_id, token, stream, id, fence = unpack(ARGV, 1, 5)
local number, checkpoint = tonumber(ARGV[6]), ARGV[7]
--- @include own-record

local record, problem = read_own_record(stream, id, fence)
if not record then
  return { problem }
end
if record.commits >= number then
  return { record.commits == number and 'DONE' or 'STALE' }
end

local replies = {}
local at = 8
while at <= #ARGV do
  local words = tonumber(ARGV[at])
  local reply = redis.pcall(unpack(ARGV, at + 1, at + words))
  if type(reply) == 'table' and reply.err then
    return { 'REFUSED', #replies + 1, reply.err }
  end
  replies[#replies + 1] = reply
  at = at + 1 + words
end
redis.call('HSET', checkpoints, stream, checkpoint)
record.crashes, record.commits = 0, number
write_record(stream, record)
return { 'OK', replies }
