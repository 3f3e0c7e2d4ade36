-- due <limit>: parked tasks whose time has come -> pending; reviews whose time is over -> failed. Answers doorbells.

for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':due', '-inf', int(now), 'LIMIT', 0, ARGV[1])) do
  local t = load_task(id)
  if t and t.state == 'parked' then
    move(t, 'wake', 'pending', {}, t.parked_for)
    bells[#bells + 1] = bell(t)
  elseif t and t.state == 'pending_review' then
    local held = num(redis.call('HGET', task_key(id), 'deciding_until'))
    if held > now then
      redis.call('ZADD', P .. ':due', int(held), id)  -- somebody is about to decide
    else
      local message = 'Nobody approved or rejected it in time.'
      move(t, 'fail', 'failed', {error = cjson.encode({code = 'review_expired', message = message})}, 'review expired')
    end
  else
    redis.call('ZREM', P .. ':due', id)
  end
end
return bells
