-- due <limit>: parked tasks whose time has come -> pending. Answers their doorbells.

local bells = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':due', '-inf', int(now), 'LIMIT', 0, ARGV[1])) do
  local t = load_task(id)
  if t and t.state == 'parked' then
    move(t, 'wake', 'pending', {}, t.parked_for)
    bells[#bells + 1] = bell(t)
  else
    redis.call('ZREM', P .. ':due', id)
  end
end
return bells
