-- beat <slot> <incarnation> <lease, ms> <epoch or ''> <task id or ''> <run id> <progress>
-- Prolongs the slot's lease and its run's. Answers fenced (0 or 1), the cancel's reason, leaving (0 or 1), and how much
-- has happened here.

local slot, incarnation, lease_ms, epoch = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local id, run_id, progress = ARGV[5], ARGV[6], ARGV[7]
if reset(epoch) then return {0, '', 0, 0} end
local s = redis.call('HMGET', slot_key(slot), 'incarnation', 'leaving')
if s[1] ~= incarnation then return {1, '', 0, 0} end
redis.call('ZADD', P .. ':slots', int(now + lease_ms), slot)
local leaving = s[2] == '1' and 1 or 0
if id == '' then return {0, '', leaving, moves()} end

local v = redis.call('HMGET', task_key(id), 'state', 'run_id', 'cancel_requested')
if not v[1] or v[2] ~= run_id or not at_work(v[1]) then return {1, '', leaving, 0} end
redis.call('ZADD', P .. ':leases', int(now + lease_ms), id)
if progress ~= '' then redis.call('HSET', task_key(id), 'progress', progress) end
return {0, v[3] or '', leaving, moves()}
