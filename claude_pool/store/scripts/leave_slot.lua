-- leave_slot <slot> <incarnation>: forgets the slot, if it is still this incarnation's.

local slot = ARGV[1]
if redis.call('HGET', slot_key(slot), 'incarnation') ~= ARGV[2] then return 0 end
redis.call('DEL', slot_key(slot), P .. ':wake:' .. slot)
redis.call('ZREM', P .. ':slots', slot)
redis.call('SREM', P .. ':busy', slot)
event('leave', slot, {})
return 1
