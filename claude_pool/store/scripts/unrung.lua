-- unrung <limit> <least age, ms, or ''>
-- Pending tasks whose doorbell is overdue. With an age: every pending task that was not rung for so long, for a caller
-- who knows that no doorbell is left in the queue.

local limit, age, bells = tonumber(ARGV[1]), ARGV[2], {}

local function again(id)
  local t = load_task(id)
  if not t or t.state ~= 'pending' then
    redis.call('ZREM', P .. ':bells', id)
    return
  end
  local rings = num(t.rings) + 1
  put(t, {rings = int(rings), rung_ms = int(now)})
  redis.call('ZADD', P .. ':bells', int(now + math.min(BELL_MS * 2 ^ rings, BELL_MAX_MS)), id)
  bells[#bells + 1] = bell(t)
end

if age == '' then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':bells', '-inf', int(now), 'LIMIT', 0, limit)) do again(id) end
  return bells
end
for _, id in ipairs(redis.call('ZRANGE', P .. ':bells', 0, -1)) do
  if #bells >= limit then break end
  if num(redis.call('HGET', task_key(id), 'rung_ms')) <= now - tonumber(age) then again(id) end
end
return bells
