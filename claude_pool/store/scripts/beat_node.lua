-- beat_node <node> <incarnation> <lease, ms> <errored, JSON or ''> <epoch and moves as seen, or ''>: the orders and
-- how much has happened here; nothing when it was superseded, reset when the store does not know it because it is
-- another one.

local node, key = ARGV[1], P .. ':node:' .. ARGV[1]
local other = reset_for_all(ARGV[5])
if redis.call('HGET', key, 'incarnation') ~= ARGV[2] then return other and {'reset'} or {} end
redis.call('ZADD', P .. ':nodes', int(now + ARGV[3]), node)
if ARGV[4] ~= '' then
  redis.call('HSET', key, 'errored', ARGV[4])
else
  redis.call('HDEL', key, 'errored')
end
return {other and 0 or moves(), redis.call('HMGET', key, 'mode', 'slots', 'deadline_ms')}
