-- Takes out a member that has not renewed since it was looked at.
--
-- KEYS: 1 ctl, 2 members. ARGV: store, epoch, server; incarnation, renewals when it was looked at.
-- Answers: ok, 1 if it is out now, else 0 | history, standing | absent.

local elsewhere = other_history(KEYS[1], ARGV[1], ARGV[2], ARGV[3])
if elsewhere then
  return elsewhere
end
local entry = redis.call('HGET', KEYS[2], ARGV[4])
if not entry then
  return {'ok', '1'}
end
-- What cannot be read counts as one that never renewed.
if (string.match(entry, '^%d+%.%d+ (%d+) %d+ ') or '0') ~= ARGV[5] then
  return {'ok', '0'}
end
redis.call('HDEL', KEYS[2], ARGV[4])
return {'ok', '1'}
