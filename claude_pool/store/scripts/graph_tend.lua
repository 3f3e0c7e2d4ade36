-- graph_tend <limit>: chains and fan-outs whose time is over are stopped, or were never launched and are dropped; wide
-- ones that are being stopped get on with it. Answers {ids, bells}.

local touched = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':deadlines', '-inf', int(now), 'LIMIT', 0, ARGV[1])) do
  redis.call('ZREM', P .. ':deadlines', id)
  local p = load_parent(id)
  if p and not final(p.state) then
    local launched = p.state == 'running'
    stop_parent(p, 'failed', launched and 'its time was over' or 'it was never launched', 'timeout')
    touched[#touched + 1] = id
  end
end
for _, id in ipairs(redis.call('ZRANGE', P .. ':stopping', 0, tonumber(ARGV[1]) - 1)) do
  if redis.call('EXISTS', parent_key(id)) == 1 then
    stop_some(id)
    touched[#touched + 1] = id
    break  -- a thousand children are enough for one step
  end
  redis.call('ZREM', P .. ':stopping', id)
end
return {touched, bells}
