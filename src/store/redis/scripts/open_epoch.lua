-- Opens the next epoch on a server that was restarted: no lease, member or acknowledgement of the one before counts in it.
--
-- KEYS: 1 ctl, 2 log, 3 audit, 4 members. ARGV: store, epoch and server of the history that was found, the server process
-- and the head that were found with it; the new epoch, its first revision and that one's stream id, change and event;
-- entries to keep in the log; channel and message of the hint.
-- Answers: opened | moved (somebody else was first) | behind, incarnation (a member had applied more than the store has) |
-- history, standing | absent | refused, why.

local ctl, log, audit, members = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local head, epoch, revision, id = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local all

local function judge()
  local found = redis.call('HMGET', ctl, 'store', 'epoch', 'server', 'head')
  if not found[1] then
    return {'absent'}
  end
  if found[1] ~= ARGV[1] then
    return {'history', standing(ctl)}
  end
  local live = live_server()
  if found[2] ~= ARGV[2] or found[3] ~= ARGV[3] or found[4] ~= head or live ~= ARGV[4] or live == found[3] then
    return {'moved'}
  end
  local types = {[log] = 'stream', [audit] = 'stream', [members] = 'hash'}
  for key, due in pairs(types) do
    if not is_of_type(key, due) then
      return {'refused', 'something else stands under ' .. key}
    end
  end
  all = redis.call('HGETALL', members)
  for at = 1, #all, 2 do
    local applied = string.match(all[at + 1], '^(%d+%.%d+) ')
    if applied and is_later(applied, head) then
      return {'behind', all[at]}
    end
  end
  if not is_behind(audit, id) then
    return {'refused', 'the audit log is ahead of the head'}
  end
  may_write(ctl, log, head)
  return nil
end

local judged, refusal = pcall(judge)
if not judged then
  return {'refused', message(refusal)}
end
if refusal then
  return refusal
end

-- First, since it may still fail, and a script is not rolled back. Nothing after it can.
local logged = redis.pcall('XADD', log, id, 'c', ARGV[9])
if type(logged) == 'table' and logged.err then
  return {'refused', logged.err}
end
for at = 1, #all, 2 do
  redis.call('HDEL', members, all[at])
end
redis.call('XADD', audit, id, 'e', ARGV[10])
redis.call('HSET', ctl, 'epoch', epoch, 'server', ARGV[4], 'opened_after:' .. epoch, head, 'head', revision)
trim(ctl, log, ARGV[11])
redis.pcall('PUBLISH', ARGV[12], ARGV[13])
return {'opened'}
