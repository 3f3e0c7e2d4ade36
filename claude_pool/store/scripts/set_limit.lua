-- set_limit <scope> <micro-dollars or ''>: a task's own scope is its record. 0 when there is no such task.

local scope, limit = ARGV[1], ARGV[2]
local key, field = ledger(scope), 'limit'
if string.sub(scope, 1, 2) == 't-' then
  key, field = task_key(scope), 'cap'
  if redis.call('EXISTS', key) == 0 then return 0 end
end
if limit == '' then
  redis.call('HDEL', key, field)
else
  redis.call('HSET', key, field, limit)
end
call_waiting(scope)
return 1
