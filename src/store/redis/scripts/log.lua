-- A part of the log, and where the store stood at that instant. Not MULTI: that is refused when the memory is full.
--
-- KEYS: 1 ctl, 2 log. ARGV: first and last id, number of entries at most.
-- Answers: ok, store, head, floor, entries | absent.

local found = redis.call('HMGET', KEYS[1], 'store', 'head', 'floor')
if not found[1] then
  return {'absent'}
end
return {'ok', found[1], found[2], found[3], redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[2], 'COUNT', ARGV[3])}
