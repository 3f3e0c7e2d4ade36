-- submit <id> <idempotency hash or ''> <its ttl, ms> <request hash> [field value]...
-- One new task, or the one that this key already made. Answers created, known, reused, drained or taken.

local id, idem, ttl_ms, request = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local given = redis.call('HMGET', task_key(id), 'request', 'state')
if given[1] == request then return {'created', id, given[2]} end  -- our own call, repeated after a lost answer
if given[1] then return {'taken', id} end

local idem_key = P .. ':idem:' .. idem
if idem ~= '' then
  local seen = redis.call('GET', idem_key)
  if seen then
    local task_id, hash = string.match(seen, '^(%S+) (%S+)$')
    if hash ~= request then return {'reused', task_id} end
    return {'known', task_id, redis.call('HGET', task_key(task_id), 'state') or 'completed'}
  end
end
if redis.call('HGET', P .. ':meta', 'accepting') == '0' then return {'drained'} end

local t = {id = id, state = 'pending', until_ms = '', waits = ''}
redis.call('HSET', task_key(id), 'request', request, 'idem', idem, 'state', t.state,
  'event_id', event('submit', id, {state = t.state}), 'created_ms', int(now),
  'since_ms', int(now), 'rung_ms', int(now), unpack(ARGV, 5))
if idem ~= '' then redis.call('SET', idem_key, id .. ' ' .. request, 'PX', ttl_ms) end
local fine = string.format('%.3f', now + (tonumber(clock[2]) % 1000) / 1000)  -- keeps the order within a millisecond
redis.call('ZADD', P .. ':index', fine, id)
for _, tag in ipairs(names_in(named(5).tags or '')) do redis.call('ZADD', P .. ':tag:' .. tag, fine, id) end
enter(t)
return {'created', id, t.state}
