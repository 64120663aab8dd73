-- Writes a batch as the revision after the head, or says why not.
--
-- KEYS: 1 ctl, 2 log, 3 audit, 4 quiet, 5 what is known of the mutation (any key of ours where there is none), then the
-- buckets that the batch reads or writes; ARGV names those by their place among them, from 1.
-- ARGV: store, epoch, server; the time in milliseconds after which nothing may be written any more; number of buckets; the head that the batch was encoded for, its revision, its stream id;
-- the change (empty: the batch writes nothing), the event; entries to keep in the log; channel and message of the hint;
-- 1 if there is a mutation, what will be known of it, seconds and nanoseconds of the oldest that is still known, seconds to
-- keep it;
-- count, then for each read: bucket, row, revision (empty: none);
-- count (0 or 1), then the workspace that must be quiet, and since when;
-- count, then for each workspace written: bucket, row;
-- count, then for each write: bucket, row, value (empty: delete);
-- count, then the workspaces whose keys are written.
-- Answers: committed | remembered | repeated, what is known, head | conflict, `read` or `quiet` or `retired`, place |
-- moved, head | late, standing | history, standing | absent | refused, why. All but the first two: nothing was written.

local ctl, log, audit, quiet, done = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local at = 0
local function take()
  at = at + 1
  return ARGV[at]
end
local function each(fields)
  local all = {}
  for place = 1, tonumber(take()) do
    local one = {}
    for field = 1, fields do
      one[field] = take()
    end
    all[place] = one
  end
  return all
end
local function bucket(place)
  return KEYS[5 + tonumber(place)]
end

local store = take()
local epoch = take()
local server = take()
local latest = tonumber(take())
local buckets = take()
local expected = take()
local revision = take()
local id = take()
local change = take()
local event = take()
local kept = take()
local channel = take()
local hint = take()
local has_mutation = take() == '1'
local known_then = take()
local oldest_seconds = tonumber(take())
local oldest_nanos = tonumber(take())
local seconds_known = take()
local reads = each(3)
local quiets = each(2)
local workspaces = each(2)
local writes = each(3)
local noisy = each(1)

-- True if what is known of a mutation counts. What cannot be read does: whether it was made is just what nobody can tell.
local function still_counts(known)
  local seconds, nanos = string.match(known, '^(-?%d+)%.(%d+) ')
  seconds, nanos = tonumber(seconds), tonumber(nanos)
  if not seconds then
    return true
  end
  return seconds > oldest_seconds or (seconds == oldest_seconds and nanos >= oldest_nanos)
end

-- A record's revision as it stands before it; empty: there is no record.
local function revision_of(stored)
  if not stored then
    return ''
  end
  return string.match(stored, '^(%d+%.%d+) ') or 'none'
end

-- True for the end of a workspace: behind the schema and the revision (varints) comes field 6.
local function is_tombstone(stored)
  local place = string.find(stored, ' ', 1, true)
  while place do
    place = place + 1
    local tag = string.byte(stored, place)
    if not tag or tag % 8 ~= 0 then
      return tag == 50
    end
    repeat
      place = place + 1
      local byte = string.byte(stored, place)
    until not byte or byte < 128
  end
  return false
end

-- Everything that may refuse the batch; nothing is changed here. nil: nothing does.
local function judge()
  local elsewhere = other_history(ctl, store, epoch, server)
  if elsewhere then
    return elsewhere
  end
  -- Whoever sent it has been told long ago that it failed, and does not know that it is still on its way.
  local time = redis.call('TIME')
  if tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000 > latest then
    return {'late', standing(ctl)}
  end
  local found = redis.call('HMGET', ctl, 'head', 'buckets')
  local head = found[1]
  if not head or found[2] ~= buckets then
    return {'refused', 'its ctl is damaged'}
  end
  local types = {ctl = 'hash', log = 'stream', audit = 'stream', quiet = 'hash', done = 'string'}
  local by_name = {ctl = ctl, log = log, audit = audit, quiet = quiet, done = has_mutation and done or nil}
  for name, key in pairs(by_name) do
    if not is_of_type(key, types[name]) then
      return {'refused', 'something else stands under ' .. key}
    end
  end
  for place = 6, #KEYS do
    if not is_of_type(KEYS[place], 'hash') then
      return {'refused', 'something else stands under ' .. KEYS[place]}
    end
  end
  local known = has_mutation and redis.call('GET', done)
  if known and still_counts(known) then
    return {'repeated', known, head}
  end
  for place, read in ipairs(reads) do
    if revision_of(redis.call('HGET', bucket(read[1]), read[2])) ~= read[3] then
      return {'conflict', 'read', tostring(place)}
    end
  end
  for _, guard in ipairs(quiets) do
    local last = redis.call('HGET', quiet, guard[1])
    if last and is_later(last, guard[2]) then
      return {'conflict', 'quiet', '1'}
    end
  end
  for place, workspace in ipairs(workspaces) do
    local stored = redis.call('HGET', bucket(workspace[1]), workspace[2])
    if stored and is_tombstone(stored) then
      return {'conflict', 'retired', tostring(place)}
    end
  end
  if change == '' then
    if has_mutation and known_then == '' then
      -- The record was another when it was read for what will be known.
      return {'moved', head}
    end
    return nil
  end
  if head ~= expected then
    return {'moved', head}
  end
  if not is_behind(audit, id) then
    return {'refused', 'the audit log is ahead of the head'}
  end
  may_write(ctl, log, head)
  if has_mutation then
    if known then
      redis.call('SET', done, known, 'KEEPTTL')
    else
      redis.call('SET', done, '', 'XX')
    end
  end
  return nil
end

local judged, refusal = pcall(judge)
if not judged then
  return {'refused', message(refusal)}
end
if refusal then
  return refusal
end

if change == '' then
  if has_mutation then
    redis.call('SET', done, known_then, 'EX', seconds_known)
  end
  return {'remembered'}
end

-- First, since it may still fail, and a script is not rolled back. Nothing after it can.
local logged = redis.pcall('XADD', log, id, 'c', change)
if type(logged) == 'table' and logged.err then
  return {'refused', logged.err}
end
for _, write in ipairs(writes) do
  if write[3] == '' then
    redis.call('HDEL', bucket(write[1]), write[2])
  else
    redis.call('HSET', bucket(write[1]), write[2], write[3])
  end
end
for _, workspace in ipairs(noisy) do
  redis.call('HSET', quiet, workspace[1], revision)
end
if has_mutation then
  redis.call('SET', done, known_then, 'EX', seconds_known)
end
redis.call('XADD', audit, id, 'e', event)
redis.call('HSET', ctl, 'head', revision)
trim(ctl, log, kept)
-- A lost hint is made good by the next renewal.
redis.pcall('PUBLISH', channel, hint)
return {'committed'}
