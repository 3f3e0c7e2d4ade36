-- start <id> <run id> <epoch or ''> <session id>
-- claimed -> running: durable before any process exists. Answers done, stale or reset.

local id, run_id, epoch, session_id = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if reset(epoch) then return {'reset'} end
local t = load_task(id)
if not t or t.run_id ~= run_id then return {'stale'} end
if t.state == 'running' and t.session_id == session_id then return {'done'} end  -- repeated after a lost answer
if t.state ~= 'claimed' then return {'stale'} end
move(t, 'start', 'running', {session_id = session_id, started_ms = int(now), paid = '1', locks = session_id})
if session_id ~= '' then hold_session(t, session_id, true) end
return {'done'}
