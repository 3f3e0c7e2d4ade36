-- cancel <id> <reason>
-- What waits ends at once, also a claimed task: no process exists before its start. What runs is asked to stop.

local id, reason = ARGV[1], ARGV[2]
local t = load_task(id)
if not t then return {'unknown'} end
if final(t.state) then return {'done', record(id)} end
if t.state == 'running' then
  if t.cancel_requested == '' then
    local asked = event('cancel', id, {run_id = t.run_id, slot = t.slot, reason = reason})
    put(t, {cancel_requested = reason, event_id = asked})
    ring_name(t.slot, 'cancel')
  end
  return {'done', record(id)}
end
local changes = {error = cjson.encode({code = 'cancelled', message = reason})}
if t.state == 'claimed' then
  for name, value in pairs(settle(t, 0)) do changes[name] = value end
  end_run(t, 'cancelled', 'cancelled: ' .. reason, 0, false)
  free_slot(t, false)
  ring_name(t.slot, 'cancel')
end
move(t, 'cancel', 'cancelled', changes, reason)
return {'done', record(id)}
