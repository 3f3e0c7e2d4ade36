-- forget <before, ms> <limit>: deletes final tasks that ended before then, with all that belongs to them.

local before, limit, count = ARGV[1], tonumber(ARGV[2]), 0
for _, state in ipairs({'completed', 'failed', 'cancelled'}) do
  local key = P .. ':state:' .. state
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', '(' .. before, 'LIMIT', 0, limit - count)) do
    local v = redis.call('HMGET', task_key(id), 'tags', 'idem')
    for _, tag in ipairs(names_in(v[1] or '')) do redis.call('ZREM', P .. ':tag:' .. tag, id) end
    if v[2] and v[2] ~= '' then redis.call('DEL', P .. ':idem:' .. v[2]) end
    redis.call('DEL', task_key(id), P .. ':runs:' .. id, P .. ':log:' .. id)
    redis.call('ZREM', P .. ':index', id)
    redis.call('ZREM', key, id)
    count = count + 1
  end
end
return count
