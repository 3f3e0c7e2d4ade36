-- reap <slack, ms> <limit>
-- Runs whose lease ran out: free when they were only claimed; by the task's policy when they were running. A run's
-- reservation is settled in full, as an estimate, until its own report corrects it. Answers {id, run, state, bell?}.

local slack_ms, limit, gone = tonumber(ARGV[1]), ARGV[2], {}

local function failure(code, message) return cjson.encode({code = code, message = message}) end

local function lose_claimed(t)
  local changes = settle(t, 0)
  changes.infra_retries = int(num(t.infra_retries) + 1)
  if t.paid == '' then changes.attempts = '' end
  if num(changes.infra_retries) > num(t.max_infra_retries) then
    changes.error = failure('dead_letter', 'lost its slot again and again before it could start')
    return 'fail', 'failed', changes, 'limit of infra retries'
  end
  return 'lose', 'pending', changes, 'lost before its start'
end

-- Where the policy sends a task whose run was lost, and what changes with it.
local function by_policy(t, changes)
  if num(changes.crashes) >= num(t.max_crashes) then
    changes.error = failure('dead_letter', 'lost ' .. changes.crashes .. ' runs')
    return 'failed', 'limit of crashes'
  end
  if t.on_lost == 'hold' then
    changes.parked_for = 'hold'
    changes.next_kind = 'continuation'
    return 'parked', 'lost'
  end
  if t.on_lost == 'resume' and num(t.continuations) < num(t.max_continuations) then
    changes.next_kind = 'continuation'
    changes.continuations = int(num(t.continuations) + 1)
    return 'pending', 'lost'
  end
  if t.on_lost == 'restart' and num(t.attempts) < num(t.max_attempts) then
    changes.next_kind = 'attempt'
    changes.attempts = int(num(t.attempts) + 1)
    return 'pending', 'lost'
  end
  return 'failed', t.on_lost == 'fail' and 'lost' or 'lost, and no repeat left'
end

local function lose_running(t)
  local charge = num(t.reserved)
  local changes = settle(t, charge)
  changes.crashes = int(num(t.crashes) + 1)
  changes.lost, changes.lost_charge = t.run_id, int(charge)
  changes.estimates = int(num(t.estimates) + 1)
  changes.error = failure('lost', 'the slot ' .. t.slot .. ' was lost')
  if t.cancel_requested ~= '' then
    changes.error = failure('cancelled', t.cancel_requested)
    return 'lose', 'cancelled', changes, t.cancel_requested, charge
  end
  local to, reason = by_policy(t, changes)
  return 'lose', to, changes, reason, charge
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. ':leases', '-inf', '(' .. int(now - slack_ms), 'LIMIT', 0, limit)) do
  local t = load_task(id)
  if t and at_work(t.state) then
    local lose = t.state == 'running' and lose_running or lose_claimed
    local verb, to, changes, reason, charge = lose(t)
    end_run(t, 'lost', to .. ': ' .. reason, charge or 0, charge ~= nil)
    free_slot(t, false)
    ring_name(t.slot, 'lost')
    move(t, verb, to, changes, reason)
    local found = {id, t.run_id, to}
    if to == 'pending' then found[4] = bell(t) end
    gone[#gone + 1] = found
  else
    redis.call('ZREM', P .. ':leases', id)
  end
end

for _, b in ipairs(bells) do redis.call('ZADD', P .. ':bells', int(now), b[1]) end  -- rung with what is overdue

-- slots and nodes that have been silent for a day are forgotten
for _, kind in ipairs({'slot', 'node'}) do
  for _, name in ipairs(redis.call('ZRANGEBYSCORE', P .. ':' .. kind .. 's', '-inf', int(now - 86400000), 'LIMIT', 0, 100)) do
    redis.call('ZREM', P .. ':' .. kind .. 's', name)
    redis.call('DEL', P .. ':' .. kind .. ':' .. name, P .. ':wake:' .. name)
    redis.call('SREM', P .. ':busy', name)
  end
end
return gone
