-- release <id> <run id> <epoch or ''> <reason>
-- claimed -> pending, free. Answers the doorbell to ring, stale or reset.

local id, run_id, epoch, reason = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
if reset(epoch) then return {'reset'} end
local t = load_task(id)
if not t or t.run_id ~= run_id or t.state ~= 'claimed' then return {'stale'} end
local changes = settle(t, 0)
if t.paid == '' then changes.attempts = '' end
end_run(t, 'released', 'pending: ' .. reason, 0, false)
free_slot(t, false)
move(t, 'release', 'pending', changes, reason)
return {'done', bell(t)}
