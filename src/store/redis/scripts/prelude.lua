-- Stands before every script, behind its line of flags. Scripts and not MULTI: what is written depends on what is read, and
-- WATCH would have each writer try again whenever another one commits.

-- The server process: it changes with every restart and every failover.
local function live_server()
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  local replication = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
  return run .. ':' .. replication
end

-- All of `ctl`, the server that answers, and its clock.
local function standing(ctl)
  local time = redis.call('TIME')
  return {redis.call('HGETALL', ctl), live_server(), time[1], time[2]}
end

-- What to answer if the store is not in this history; nil: it is.
local function other_history(ctl, store, epoch, server)
  local found = redis.call('HMGET', ctl, 'store', 'epoch', 'server')
  if not found[1] then
    return {'absent'}
  end
  if found[1] ~= store or found[2] ~= epoch or found[3] ~= server or live_server() ~= server then
    return {'history', standing(ctl)}
  end
  return nil
end

-- The epoch and the number of a revision; nil: it is none.
local function parts(revision)
  local epoch, number = string.match(revision or '', '^(%d+)%.(%d+)$')
  return tonumber(epoch), tonumber(number)
end

-- True if revision `a` comes after `b`, or one of them is none: who cannot tell must not say that nothing came after.
local function is_later(a, b)
  local a_epoch, a_number = parts(a)
  local b_epoch, b_number = parts(b)
  if not a_epoch or not b_epoch then
    return true
  end
  return a_epoch > b_epoch or (a_epoch == b_epoch and a_number > b_number)
end

-- What an error says: it is a table where redis raised it.
local function message(problem)
  if type(problem) == 'table' then
    return problem.err or 'unknown'
  end
  return tostring(problem)
end

-- True if nothing stands under the key, or a value of this type.
local function is_of_type(key, due)
  local found = redis.call('TYPE', key).ok
  return found == 'none' or found == due
end

-- Ids must rise in a stream. True if `id` (`<epoch>-<number>`) comes after all that the stream ever held.
local function is_behind(stream, id)
  if redis.call('EXISTS', stream) == 0 then
    return true
  end
  local facts = redis.call('XINFO', 'STREAM', stream)
  for at = 1, #facts, 2 do
    if facts[at] == 'last-generated-id' then
      local last = string.gsub(facts[at + 1], '%-', '.')
      local own = string.gsub(id, '%-', '.')
      return is_later(own, last)
    end
  end
  return false
end

-- Writes what changes nothing, by the commands that come later: a user who may not use one of them is found out before the
-- first word is written. (A script may touch no key that it was not given, so it is always `ctl` and `log`.)
local function may_write(ctl, log, head)
  redis.call('HSET', ctl, 'head', head)
  redis.call('HDEL', ctl, '')
  redis.call('XTRIM', log, 'MAXLEN', '~', '9000000000')
end

-- Cuts the log to about `kept` entries, and notes what stands before the oldest.
local function trim(ctl, log, kept)
  if redis.call('XTRIM', log, 'MAXLEN', '~', kept) == 0 then
    return
  end
  local oldest = redis.call('XRANGE', log, '-', '+', 'COUNT', 1)[1]
  local epoch, number = string.match(oldest[1], '^(%d+)-(%d+)$')
  local floor = epoch .. '.' .. string.format('%.0f', tonumber(number) - 1)
  if number == '1' then
    floor = redis.call('HGET', ctl, 'opened_after:' .. epoch) or floor
  end
  redis.call('HSET', ctl, 'floor', floor)
end
