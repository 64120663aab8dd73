-- Takes out the member that asks.
--
-- KEYS: 1 ctl, 2 members. ARGV: store, epoch, server; incarnation.
-- Answers: ok | history, standing | absent.

local elsewhere = other_history(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
if elsewhere then
  return elsewhere
end
redis.call('HDEL', KEYS[2], ARGV[4])
return {'ok'}
