-- register_node <node> <incarnation> <lease, ms> <schema> <host> [field value]...: the orders, taken or schema.
-- On one host a lock on the node's folder sees to it that a node has one process, so a new one there succeeds the old.

local node, incarnation, lease_ms = ARGV[1], ARGV[2], ARGV[3]
local key = P .. ':node:' .. node
local schema = redis.call('HGET', P .. ':meta', 'schema')
if schema and schema ~= ARGV[4] then return {'schema', schema} end
local deadline = redis.call('ZSCORE', P .. ':nodes', node)
local holder = redis.call('HGET', key, 'incarnation')
local elsewhere = redis.call('HGET', key, 'host') ~= ARGV[5]
if holder and holder ~= incarnation and elsewhere and deadline and num(deadline) > now then return {'taken'} end
if holder ~= incarnation then
  redis.call('DEL', key)  -- the orders of an earlier life are over
  redis.call('HSET', key, 'incarnation', incarnation, 'host', ARGV[5], unpack(ARGV, 6))
  event('join', node, {})
end
redis.call('ZADD', P .. ':nodes', int(now + lease_ms), node)
return {'done', redis.call('HMGET', key, 'mode', 'slots', 'deadline_ms')}
