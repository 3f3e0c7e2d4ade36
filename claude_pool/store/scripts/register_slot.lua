-- register_slot <slot> <incarnation> <lease, ms> [field value]...: 1, or 0 while another incarnation is alive.

local slot, incarnation, lease_ms = ARGV[1], ARGV[2], ARGV[3]
local deadline = redis.call('ZSCORE', P .. ':slots', slot)
local holder = redis.call('HGET', slot_key(slot), 'incarnation')
if holder and holder ~= incarnation and deadline and num(deadline) > now then return 0 end
if holder ~= incarnation then
  redis.call('DEL', slot_key(slot))
  redis.call('SREM', P .. ':busy', slot)
  redis.call('HSET', slot_key(slot), 'incarnation', incarnation, 'since_ms', int(now), unpack(ARGV, 4))
  event('join', slot, {})
end
redis.call('ZADD', P .. ':slots', int(now + lease_ms), slot)
return 1
