-- claim <id> <slot> <incarnation> <run id> <lease, ms> <epoch or ''> <default cap or ''> <an id for a new session>
-- pending -> claimed, with the money reserved. What does not fit, or must wait for its account, is parked.

local id, slot, incarnation, run_id, lease_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local epoch, default_cap, fresh = ARGV[6], ARGV[7], ARGV[8]
if reset(epoch) then return {'refused', 'store_reset'} end
local s = redis.call('HMGET', slot_key(slot), 'incarnation', 'node')
if s[1] ~= incarnation then return {'refused', 'fenced'} end
local t = load_task(id)
if not t then return {'refused', 'unknown'} end

local function granted()
  local texts = redis.call('HMGET', task_key(id), 'prompt', 'feedback', 'plan', 'note')
  local resume = t.run_kind == 'continuation' and t.session_id or t.source
  return {'granted', record(id), texts[1] or '', texts[2] or '', t.run_kind, t.run_cap, resume, t.session_cost,
    t.lost_before, texts[3] or '', texts[4] or '', t.forks, t.begins}
end

if t.state == 'claimed' and t.run_id == run_id then return granted() end  -- repeated after a lost answer
if t.state ~= 'pending' then return {'refused', 'not_pending'} end

local over = unwanted(t)
if over then
  end_task(t, over, true)
  return {'refused', 'not_pending'}
end
local talk = conversation(t, fresh, s[2])
if talk.gone then
  move(t, 'fail', 'failed', {error = cjson.encode({code = 'session_gone', message = talk.gone})}, 'session gone')
  return {'refused', 'not_pending'}
end
if talk.elsewhere then
  put(t, {sits = talk.elsewhere})
  redis.call('ZADD', P .. ':bells', int(now), id)  -- the housekeeper rings there, at once
  return {'refused', 'elsewhere'}
end
if talk.wait then
  local changes = {parked_for = 'session', until_ms = int(now + LOOK_MS), waits = talk.wait}
  move(t, 'park', 'parked', changes, 'waits for its conversation')
  return {'refused', 'session'}
end
local parking, probe = closed_door(t)
if parking then
  move(t, 'park', 'parked', parking, parking.parked_for)
  return {'refused', 'breaker'}
end
local need, scope, wanted = need_of(t, default_cap)
if scope then
  move(t, 'park', 'parked', {parked_for = 'budget', waits = 'budget:' .. scope, need = int(wanted)}, 'budget of ' .. scope)
  return {'refused', 'no_budget'}
end

local resumes = talk.own
local changes = {
  lost_before = (t.lost ~= '' and t.lost == t.run_id) and '1' or '', lost = '', lost_charge = '',
  run_id = run_id, runs = int(num(t.runs) + 1), run_kind = resumes and 'continuation' or 'attempt',
  run_cap = need and int(need) or '', reserved = need and int(need) or '',
  slot = slot, node = s[2], claimed_ms = int(now), started_ms = '', progress = '',
  session_cost = talk.cost or '', source = '', forks = '', begins = talk.begin or '',
  locks = not talk.forks and (talk.resume or talk.begin) or '',
}
if not resumes then
  changes.attempts = int(math.max(num(t.attempts), 1))
  changes.session_id = changes.locks
  changes.source = talk.resume or ''
  changes.forks = talk.forks and '1' or ''
end
move(t, 'claim', 'claimed', changes)
if t.locks ~= '' then hold_session(t, t.locks) end
if need then reserve(t, need) end
if probe then redis.call('HSET', breaker(t.account), 'probe', id .. ' ' .. run_id) end
redis.call('ZADD', P .. ':leases', int(now + lease_ms), id)
redis.call('ZADD', P .. ':slots', 'GT', int(now + lease_ms), slot)
redis.call('SADD', P .. ':busy', slot)
redis.call('HSET', slot_key(slot), 'task_id', id, 'run_id', run_id, 'since_ms', int(now))
return granted()
