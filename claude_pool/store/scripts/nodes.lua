-- nodes: {identity, mode, slots, deadline, alive} of every node that is known.

local found = {}
for i, node in ipairs(redis.call('ZRANGE', P .. ':nodes', 0, -1)) do
  local v = redis.call('HMGET', P .. ':node:' .. node, 'identity', 'mode', 'slots', 'deadline_ms')
  local alive = num(redis.call('ZSCORE', P .. ':nodes', node)) > now
  found[i] = {v[1] or '', v[2] or '', v[3] or '', v[4] or '', alive and 1 or 0}
end
return found
