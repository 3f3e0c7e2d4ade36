-- remind <pause, ms> <limit>: one event for each review that has waited so long without one. Answers the tasks.

local reminded = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':reviews', '-inf', int(now - num(ARGV[1])), 'LIMIT', 0, ARGV[2])) do
  local since = num(redis.call('HGET', task_key(id), 'since_ms'))
  event('remind', id, {reason = 'waits for its review for ' .. int((now - since) / 3600000) .. ' h'})
  redis.call('ZADD', P .. ':reviews', int(now), id)
  reminded[#reminded + 1] = id
end
return reminded
