-- beat_node <node> <incarnation> <lease, ms> <errored, JSON or ''> <epoch and moves as seen, or ''>: the orders and
-- how much has happened here; nothing when it was superseded.

local node, key = ARGV[1], P .. ':node:' .. ARGV[1]
if redis.call('HGET', key, 'incarnation') ~= ARGV[2] then return {} end
redis.call('ZADD', P .. ':nodes', int(now + ARGV[3]), node)
if ARGV[4] ~= '' then
  redis.call('HSET', key, 'errored', ARGV[4])
else
  redis.call('HDEL', key, 'errored')
end
local seen = reset_for_all(ARGV[5]) and 0 or moves()
return {seen, redis.call('HMGET', key, 'mode', 'slots', 'deadline_ms')}
