-- What is known of a mutation, and where the store stood at that instant. Not MULTI: that is refused when the memory is full.
--
-- KEYS: 1 ctl, 2 what is known of the mutation. ARGV: none.
-- Answers: ok, store, head, what is known (nil: nothing) | absent.

local found = redis.call('HMGET', KEYS[1], 'store', 'head')
if not found[1] then
  return {'absent'}
end
return {'ok', found[1], found[2], redis.call('GET', KEYS[2])}
