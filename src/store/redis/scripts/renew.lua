-- Renews a member's lease. A write, so that a server that lost its disk or its place refuses it.
--
-- KEYS: 1 ctl, 2 members. ARGV: store, epoch, server; incarnation, applied, 1 if this member vouches that every lease of
-- the histories before has run out, how often this member has renewed, name; then a channel for each writer that waits for
-- what is acknowledged.
-- Answers: ok, standing | history, standing | absent.

local ctl, members = KEYS[1], KEYS[2]
local elsewhere = other_history(ctl, ARGV[1], ARGV[2], ARGV[3])
if elsewhere then
  return elsewhere
end
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local entry = ARGV[5] .. ' ' .. ARGV[7] .. ' ' .. now .. ' ' .. ARGV[8]
redis.call('HSET', members, ARGV[4], entry)
if ARGV[6] == '1' and redis.call('HGET', ctl, 'settled') ~= ARGV[2] then
  redis.call('HSET', ctl, 'settled', ARGV[2])
end
for place = 9, #ARGV do
  redis.pcall('PUBLISH', ARGV[place], '')
end
return {'ok', standing(ctl)}
