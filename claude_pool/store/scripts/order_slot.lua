-- order_slot <slot>: asks it to leave after what it runs, and wakes it and its node. 0 when there is no such slot.

local slot = ARGV[1]
local deadline = redis.call('ZSCORE', P .. ':slots', slot)
if not deadline or num(deadline) <= now then return 0 end
redis.call('HSET', slot_key(slot), 'leaving', '1')
ring_name(slot, 'leave')
local node = redis.call('HGET', slot_key(slot), 'node')
if node then ring_name(node, 'slot') end
return 1
