-- cancel <id> <reason>
-- What waits ends at once, also a claimed task: no process exists before its start. What runs is asked to stop.

local id, reason = ARGV[1], ARGV[2]
local t = load_task(id)
if not t then return {'unknown'} end
if final(t.state) then return {'done', record(id), bells} end
end_task(t, reason, false)
return {'done', record(id), bells}
