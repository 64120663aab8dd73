-- Where the store stands, in whatever history, and its members at the same instant.
--
-- KEYS: 1 ctl, 2 members. ARGV: 1 if the members are wanted.
-- Answers: ok, standing, members (incarnation, entry, ...) | absent.

if not redis.call('HGET', KEYS[1], 'store') then
  return {'absent'}
end
local members = {}
if ARGV[1] == '1' then
  members = redis.call('HGETALL', KEYS[2])
end
return {'ok', standing(KEYS[1]), members}
