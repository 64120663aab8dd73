-- Makes a store where there is none.
--
-- KEYS: 1 ctl, then every other key that a store has, but for those named after a mutation. ARGV: store, milliseconds of a
-- lease, number of buckets.
-- Answers: made, standing | found, standing | remains, key.

local ctl = KEYS[1]
if redis.call('HGET', ctl, 'store') then
  return {'found', standing(ctl)}
end
-- What stands here without its ctl would be taken for the new store's own.
for _, key in ipairs(KEYS) do
  if redis.call('EXISTS', key) == 1 then
    return {'remains', key}
  end
end
redis.call('HSET', ctl, 'store', ARGV[1], 'epoch', '1', 'server', live_server(), 'head', '1.0', 'floor', '1.0',
  'lease_ms', ARGV[2], 'buckets', ARGV[3], 'settled', '1')
return {'made', standing(ctl)}
