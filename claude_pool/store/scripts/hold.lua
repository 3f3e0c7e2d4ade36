-- hold <id> <reason>: pending -> parked, until somebody wakes it. Answers done, unknown or the state that forbids it.

local id, reason = ARGV[1], ARGV[2]
local t = load_task(id)
if not t then return {'unknown'} end
if t.state ~= 'pending' then return {'conflict', t.state} end
move(t, 'park', 'parked', {parked_for = 'hold'}, reason)
return {'done', record(id)}
