-- slots: {slot, fields} of every living slot, then {node, errored slots} of every living node.

local slots, errored = {}, {}
for i, slot in ipairs(redis.call('ZRANGEBYSCORE', P .. ':slots', '(' .. int(now), '+inf')) do
  slots[i] = {slot, redis.call('HGETALL', slot_key(slot))}
end
for i, node in ipairs(redis.call('ZRANGEBYSCORE', P .. ':nodes', '(' .. int(now), '+inf')) do
  errored[i] = {node, redis.call('HGET', P .. ':node:' .. node, 'errored') or ''}
end
return {slots, errored}
