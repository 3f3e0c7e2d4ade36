-- bury_slot <slot> <pid>: a slot whose process is known to be dead, with all it had started: forgets it, and lets the
-- lease of its run end now instead of in its time. 0 when the name is another process's by now.

local slot = ARGV[1]
local s = redis.call('HMGET', slot_key(slot), 'pid', 'task_id', 'run_id')
if s[1] ~= ARGV[2] then return 0 end
if s[2] then
  local t = load_task(s[2])
  if t and t.run_id == s[3] and at_work(t.state) then redis.call('ZADD', P .. ':leases', 0, t.id) end
end
redis.call('DEL', slot_key(slot), P .. ':wake:' .. slot)
redis.call('ZREM', P .. ':slots', slot)
redis.call('SREM', P .. ':busy', slot)
event('leave', slot, {reason = 'its process died'})
return 1
