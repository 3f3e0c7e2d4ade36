-- status <epoch or ''> [state]...: counts only. {tasks per state}, {slots, busy, nodes}, {limit, reserved, spent},
-- accepting, {breaker's state, until, message}, now, simulated (0 or 1), reset (0 or 1).

local counts = {}
for i = 2, #ARGV do counts[i - 1] = redis.call('ZCARD', P .. ':state:' .. ARGV[i]) end
local busy = 0
for _, slot in ipairs(redis.call('SMEMBERS', P .. ':busy')) do
  local deadline = redis.call('ZSCORE', P .. ':slots', slot)
  if deadline and num(deadline) > now then busy = busy + 1 end
end
local alive, simulated = '(' .. int(now), 0
for _, node in ipairs(redis.call('ZRANGEBYSCORE', P .. ':nodes', alive, '+inf')) do
  if redis.call('HGET', P .. ':node:' .. node, 'simulated') == '1' then simulated = 1 end
end
local fleet = {
  redis.call('ZCOUNT', P .. ':slots', alive, '+inf'), busy, redis.call('ZCOUNT', P .. ':nodes', alive, '+inf'),
}
return {
  counts, fleet, redis.call('HMGET', ledger('pool'), 'limit', 'reserved', 'spent'),
  redis.call('HGET', P .. ':meta', 'accepting') or '1',
  redis.call('HMGET', breaker('default'), 'state', 'until', 'message'), int(now),
  simulated, reset(ARGV[1]) and 1 or 0,
}
