-- beat_node <node> <incarnation> <lease, ms> <errored, JSON or ''>: the orders; nothing when it was superseded.

local node, key = ARGV[1], P .. ':node:' .. ARGV[1]
if redis.call('HGET', key, 'incarnation') ~= ARGV[2] then return {} end
redis.call('ZADD', P .. ':nodes', int(now + ARGV[3]), node)
if ARGV[4] ~= '' then
  redis.call('HSET', key, 'errored', ARGV[4])
else
  redis.call('HDEL', key, 'errored')
end
return redis.call('HMGET', key, 'mode', 'slots', 'deadline_ms')
