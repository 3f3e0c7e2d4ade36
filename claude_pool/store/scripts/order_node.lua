-- order_node <node> <mode or ''> <slots or ''> <deadline, ms, or ''>: the orders as they are now; nothing if unknown.

local node, mode, slots, deadline = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local key = P .. ':node:' .. node
local bounds = redis.call('HMGET', key, 'min_slots', 'max_slots')
if not bounds[1] then return {} end
if slots ~= '' then
  local wanted = math.max(num(bounds[1]), math.min(num(bounds[2]), num(slots)))
  redis.call('HSET', key, 'slots', int(wanted))
end
if mode ~= '' then
  redis.call('HSET', key, 'mode', mode)
  redis.call('HDEL', key, 'deadline_ms')  -- the deadline of an earlier mode
end
if deadline ~= '' then redis.call('HSET', key, 'deadline_ms', deadline) end
ring_name(node, 'orders')
return redis.call('HMGET', key, 'mode', 'slots', 'deadline_ms')
