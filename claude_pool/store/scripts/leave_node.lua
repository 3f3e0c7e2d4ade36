-- leave_node <node> <incarnation>: forgets the node, if it is still this incarnation's.

local node = ARGV[1]
local key = P .. ':node:' .. node
if redis.call('HGET', key, 'incarnation') ~= ARGV[2] then return 0 end
redis.call('DEL', key, P .. ':wake:' .. node)
redis.call('ZREM', P .. ':nodes', node)
event('leave', node, {})
return 1
