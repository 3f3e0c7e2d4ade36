-- forget <before, ms> <limit>: deletes final tasks that ended before then, with all that belongs to them. Steps and
-- branches stay as long as their chain or fan-out may still look at them.

local before, limit, count = ARGV[1], tonumber(ARGV[2]), 0

local function drop_parent(id)
  for _, kid in ipairs(redis.call('LRANGE', kids_key(id), 0, -1)) do
    local state = redis.call('HGET', key_of(kid), 'state')
    if is_parent(kid) then
      drop_parent(kid)
    elseif state and final(state) then
      redis.call('ZADD', P .. ':state:' .. state, 0, kid)  -- it goes with its parent, now
    end
  end
  redis.call('DEL', parent_key(id), kids_key(id), ledger(id))
  redis.call('ZREM', P .. ':graphs', id)
  redis.call('ZREM', P .. ':over', id)
end

local function drop_task(id, state)
  local v = redis.call('HMGET', task_key(id), 'tags', 'idem', 'parent', 'locks')
  if v[3] and redis.call('EXISTS', parent_key(v[3])) == 1 then
    redis.call('ZADD', P .. ':state:' .. state, int(now), id)
    return
  end
  for _, tag in ipairs(names_in(v[1] or '')) do redis.call('ZREM', P .. ':tag:' .. tag, id) end
  if v[2] and v[2] ~= '' then redis.call('DEL', P .. ':idem:' .. v[2]) end
  if v[4] and v[4] ~= '' then drop_session(v[4], id) end
  redis.call('DEL', task_key(id), P .. ':runs:' .. id, P .. ':log:' .. id)
  redis.call('ZREM', P .. ':index', id)
  redis.call('ZREM', P .. ':state:' .. state, id)
  count = count + 1
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':over', '-inf', '(' .. before, 'LIMIT', 0, 10)) do drop_parent(id) end
for _, state in ipairs({'completed', 'failed', 'cancelled'}) do
  local key = P .. ':state:' .. state
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', '(' .. before, 'LIMIT', 0, limit - count)) do
    drop_task(id, state)
  end
end
return count
