-- finish <id> <run id> <epoch or ''> [name value]...   (the verdict, by name)
-- The end of a run: one verdict, settled once. Answers done, again, stale or reset, with the record.

local id, run_id, epoch, v = ARGV[1], ARGV[2], ARGV[3], named(4)
if reset(epoch) then return {'reset'} end
local t = load_task(id)
if not t or t.run_id ~= run_id then return {'stale'} end
if t.settled == run_id then return {'again', record(id), bells} end
local late = t.lost == run_id and (t.state == 'pending' or t.state == 'parked')
if not late and not at_work(t.state) then return {'stale'} end

local ENDS = {completed = 'complete', failed = 'fail', cancelled = 'cancel', pending_review = 'review', parked = 'park'}
local cancelled = t.cancel_requested ~= ''
local to = cancelled and 'cancelled' or v.to
local verb = to == 'pending' and (t.state == 'claimed' and 'release' or 'retry') or ENDS[to]
-- a late report of a run that is to be repeated comes too late to decide when: that is decided already
local stays = late and (to == 'pending' or t.state == to)
if not stays and not may(t.state, verb, to) then return {'stale'} end

local function error_of()
  if cancelled then return cjson.encode({code = 'cancelled', message = t.cancel_requested}) end
  return v.error or ''
end

local function count(changes)
  local FIELDS = {
    continuation = {'continuations'}, infra = {'infra_retries'}, crash = {'crashes'}, attempt = {'attempts'},
    restart = {'crashes', 'attempts'},
  }
  local repeats = to == 'pending' or to == 'parked'
  for _, field in ipairs(late and {} or FIELDS[v.counts_as] or {}) do
    if repeats or field == 'crashes' then changes[field] = int(num(changes[field] or t[field]) + 1) end
  end
end

local reason = cancelled and t.cancel_requested or v.reason
local outcome, after = v.outcome, to .. (reason ~= '' and ': ' .. reason or '')
local cost, estimated = num(v.cost), v.estimated == '1'
local changes
if late then
  changes = settle(t, cost - num(t.lost_charge))
  changes.estimates = int(num(t.estimates) - 1 + (estimated and 1 or 0))
  amend_run(t, outcome, after, cost, estimated)
else
  changes = settle(t, cost)
  if estimated then changes.estimates = int(num(t.estimates) + 1) end
end
changes.settled, changes.lost, changes.lost_charge = run_id, '', ''
changes.error = error_of()
changes.next_kind = v.next_kind
for _, name in ipairs({'session_id', 'session_cost', 'result', 'note', 'vars', 'tip'}) do
  if v[name] then changes[name] = v[name] end
end
if v.session_id and v.session_cost then note_cost(v.session_id, v.session_cost) end
if v.session_gone then forget_name(t) end
if t.state == 'claimed' and t.paid == '' and (to == 'pending' or to == 'parked') then changes.attempts = '' end
count(changes)
if to == 'cancelled' and not cancelled and v.skipped then changes.skipped = '1' end
if to == 'parked' then
  changes.parked_for = v.parked_for
  changes.until_ms = v.until_ms or (v.delay_ms and int(now + num(v.delay_ms))) or ''
  if v.breaker and (v.parked_for == 'limit' or v.parked_for == 'breaker') then
    changes.waits = 'breaker:' .. t.account
  end
end
if to == 'pending_review' and t.review_expires ~= '' then
  changes.until_ms = int(now + num(t.review_expires))
end
if not late then
  if v.session_id then t.session_id = v.session_id end
  end_run(t, outcome, after, cost, estimated)
  free_slot(t, final(to) or to == 'pending_review')
end
report(t, v, to == 'completed' or to == 'pending_review')
if stays then
  changes.parked_for, changes.until_ms, changes.waits, changes.next_kind = nil, nil, nil, nil
  put(t, changes)
else
  move(t, verb, to, changes, reason)
end
return {'done', record(id), bells}
