-- Chains and fan-outs: parents, whose children are tasks or parents again. A child that ends makes its parent follow, in
-- the same step: the next one becomes ready, what is not wanted any more is skipped, the last one settles the parent.
-- What became ready is in `bells`, for the caller to ring; whoever forgets loses nothing, the housekeeper rings again.
--
-- A parent is read anew after anything that may have moved a child: that child's end has changed it already.

local AT_ONCE = 1000            -- children moved in one step; a wide fan-out goes on in the next

local bells = {}
local ended, ready, stop        -- each may lead to the others

local function is_parent(id) return string.sub(id, 1, 2) ~= 't-' end

local function is_chain(id) return string.sub(id, 1, 2) == 'c-' end

local function parent_key(id) return P .. (is_chain(id) and ':chain:' or ':fan:') .. id end

local function kids_key(id) return P .. ':kids:' .. id end

local function key_of(id) return is_parent(id) and parent_key(id) or task_key(id) end

local function load_parent(id)
  local values = redis.call('HMGET', parent_key(id), unpack(PARENT))
  if not values[1] then return nil end
  local p = {id = id}
  for i, name in ipairs(PARENT) do p[name] = values[i] or '' end
  return p
end

-- It can't go on by itself: every child that is open waits for somebody.
local function stuck(p) return p.state == 'running' and num(p.held) > 0 and num(p.held) >= num(p.open) end

local hold

local function change(p, changes)
  local was, set, gone = stuck(p), {}, {}
  for name, value in pairs(changes) do p[name] = value end
  local is = stuck(p)
  if was ~= is then changes.event_id = event(is and 'wait' or 'go', p.id, {reason = p.waits_as}) end
  for name, value in pairs(changes) do
    local list = value == '' and gone or set
    list[#list + 1] = name
    if value ~= '' then list[#list + 1] = value end
  end
  if #set > 0 then redis.call('HSET', parent_key(p.id), unpack(set)) end
  if #gone > 0 then redis.call('HDEL', parent_key(p.id), unpack(gone)) end
  if was ~= is and p.parent ~= '' then hold(p.parent, is and 1 or -1, p.waits_as) end
end

-- One child more, or less, waits for somebody.
hold = function(id, by, waits_as)
  local p = load_parent(id)
  if not p then return end
  change(p, {held = int(num(p.held) + by), waits_as = by > 0 and waits_as or p.waits_as})
end

child_moved = function(t, rested)
  local rest = rests(t.state, t.until_ms)
  if rest ~= rested then hold(t.parent, rest and 1 or -1, t.state) end
  if final(t.state) then ended(t.parent, t) end
end

-- The end of a parent; its own parent follows.
local function close(p, to, reason, code)
  local verbs = {completed = 'complete', failed = 'fail', cancelled = 'cancel'}
  change(p, {
    state = to, since_ms = int(now), ended_ms = int(now), stopping = '', open = '',
    error = to == 'completed' and '' or cjson.encode({code = code, message = reason}),
    event_id = event(verbs[to], p.id, {state = to, was = p.state, reason = reason}),
  })
  redis.call('ZREM', P .. ':deadlines', p.id)
  redis.call('ZREM', P .. ':stopping', p.id)
  if p.parent ~= '' then
    ended(p.parent, p)
  else
    redis.call('ZADD', P .. ':over', int(now), p.id)
  end
end

-- -- what is not wanted any more

-- A task that does not run ends at once; one that runs is asked to. One that never ran was skipped, not cancelled.
local function end_task(t, reason, skip)
  if t.state == 'running' then
    if t.cancel_requested == '' then
      local asked = event('cancel', t.id, {run_id = t.run_id, slot = t.slot, reason = reason})
      put(t, {cancel_requested = reason, event_id = asked})
      ring_name(t.slot, 'cancel')
    end
    return
  end
  local unused = skip and t.paid == ''
  local changes = {error = cjson.encode({code = unused and 'skipped' or 'cancelled', message = reason})}
  if unused then changes.skipped = '1' end
  if t.state == 'claimed' then
    for name, value in pairs(settle(t, 0)) do changes[name] = value end
    end_run(t, 'cancelled', 'cancelled: ' .. reason, 0, false)
    free_slot(t, false)
    ring_name(t.slot, 'cancel')
  end
  move(t, 'cancel', 'cancelled', changes, reason)
end

-- A parent that has not begun, with everything below it.
local function skip_parent(p, reason)
  change(p, {skipped = '1'})
  close(p, 'cancelled', reason, 'skipped')
  for _, id in ipairs(redis.call('LRANGE', kids_key(p.id), 0, -1)) do stop(id, reason) end
  if p.gather ~= '' then stop(p.gather, reason) end
end

-- The next thousand branches of a fan-out that is being stopped.
local function stop_some(id)
  local p = load_parent(id)
  local from = num(p.swept)
  local kids = redis.call('LRANGE', kids_key(id), from, from + AT_ONCE - 1)
  if from + #kids < num(p.total) then
    redis.call('ZADD', P .. ':stopping', int(now), id)
  else
    redis.call('ZREM', P .. ':stopping', id)
  end
  change(p, {swept = int(from + #kids)})
  for _, kid in ipairs(kids) do stop(kid, p.reason) end
end

-- End a parent before its time, as `to`. With `after`, the step that a chain is at may still come to its end.
local function stop_parent(p, to, reason, code, after)
  if final(p.state) then return end
  if p.state ~= 'running' then return skip_parent(p, reason) end
  local changes = {stopping = to, reason = reason, code = code}
  if not after then changes.halt = '1' end
  changes.event_id = event('cancel', p.id, {reason = reason})
  change(p, changes)
  if after then return end
  if is_chain(p.id) then
    stop(redis.call('LINDEX', kids_key(p.id), num(p.ended)), reason)
  elseif p.phase == 'gather' then
    stop(p.gather, reason)
  else
    stop_some(p.id)
  end
end

stop = function(id, reason)
  if is_parent(id) then
    local p = load_parent(id)
    if p then stop_parent(p, 'cancelled', reason, 'cancelled') end
    return
  end
  local t = load_task(id)
  if t and not final(t.state) then end_task(t, reason, true) end
end

-- Whether a task's turn is over before it came: its parent is being ended.
local function unwanted(t)
  if t.parent == '' then return nil end
  local v = redis.call('HMGET', parent_key(t.parent), 'state', 'stopping', 'halt', 'reason')
  if v[1] ~= 'running' then return v[4] or 'it is over' end
  if v[3] or (v[2] and not is_chain(t.parent) and t.position ~= 'gather') then return v[4] or 'it is being stopped' end
  return nil
end

-- -- chains

local function message_of(kid)
  local v = redis.call('HMGET', key_of(kid.id), 'step', 'error')
  local error = v[2] and cjson.decode(v[2]) or {}
  return (v[1] or kid.id) .. ': ' .. (error.message or kid.state), error.code or 'execution'
end

-- Whether a chain ends with this step, as what and why.
local function verdict_on(p, kid)
  if p.stopping ~= '' then return p.stopping, p.reason, p.code end
  if kid.state == 'completed' or kid.skipped == '1' then return nil end
  if kid.state == 'failed' and kid.on_fail ~= 'stop' then return nil end
  return kid.state, message_of(kid)
end

local function step_ended(p, kid)
  while kid do
    local well = kid.state == 'completed'
    local changes = {
      ended = int(num(p.ended) + 1), open = '1', ok = int(num(p.ok) + (well and 1 or 0)),
      bad = int(num(p.bad) + (kid.state == 'failed' and 1 or 0)),
    }
    if well or (kid.state == 'failed' and kid.on_fail == 'continue') then
      changes.previous = (kid.gather or '') ~= '' and kid.gather or kid.id
    end
    if (kid.tip or '') ~= '' then changes.tip = kid.tip end  -- what the next step has to find on the chain's branch
    changes.event_id = event('step', p.id, {reason = kid.state .. ' ' .. kid.id})
    change(p, changes)
    local to, reason, code = verdict_on(p, kid)
    if to then
      local rest = redis.call('LRANGE', kids_key(p.id), num(p.ended), -1)
      close(p, to, reason, code)
      for _, id in ipairs(rest) do stop(id, 'the chain ended before: ' .. reason) end
      return
    end
    local id = redis.call('LINDEX', kids_key(p.id), num(p.ended))
    if not id then return close(p, 'completed', '', '') end
    kid = ready(id)
  end
end

-- -- fan-outs

-- How a fan-out ends that nobody stopped.
local function outcome_of(p)
  if p.stopping ~= '' then return p.stopping, p.reason, p.code end
  local ok, bad, total = num(p.ok), num(p.bad), num(p.total)
  if p.policy == 'quorum' then
    if ok >= num(p.quorum) then return 'completed', '', '' end
    return 'failed', 'only ' .. int(ok) .. ' of ' .. int(total) .. ' branches completed, ' .. p.quorum .. ' were needed',
      'branch_failed'
  end
  if bad == 0 then return 'completed', '', '' end
  return 'failed', int(bad) .. ' of ' .. int(total) .. ' branches did not complete', 'branch_failed'
end

-- Whether what happened so far decides it, while others are still at work.
local function decided(p, kid)
  if p.policy == 'fail_fast' and num(p.bad) > 0 then
    local message = message_of(kid)
    return 'failed', 'a branch failed, ' .. message
  end
  if p.policy ~= 'quorum' then return nil end
  if num(p.ok) >= num(p.quorum) then return 'completed', 'enough branches completed' end
  if num(p.bad) > num(p.total) - num(p.quorum) then return 'failed', 'too many branches failed for the quorum' end
  return nil
end

local function gather_ended(p, kid)
  local to, reason, code = p.outcome, p.reason, p.code
  if p.halt ~= '' then
    to = p.stopping
  elseif to == 'completed' and kid.state ~= 'completed' then
    to = kid.state
    reason, code = message_of(kid)
  end
  close(p, to, reason, code)
end

-- The join: the last branch has ended. `phase` sees to it that this happens once.
local function branches_over(p)
  local to, reason, code = outcome_of(p)
  if p.gather == '' or p.halt ~= '' then
    close(p, to, reason, code)
    if p.gather ~= '' then stop(p.gather, reason) end
    return
  end
  change(p, {phase = 'gather', outcome = to, reason = reason, code = code, open = '1', held = ''})
  local kid = ready(p.gather)
  if kid then gather_ended(p, kid) end
end

local function open_more(p)
  local at, open, fresh = num(p.next), num(p.open), {}
  local most = p.cap ~= '' and num(p.cap) or math.huge
  local total = num(p.total)
  while at < total and open < most and #fresh < AT_ONCE do
    for _, id in ipairs(redis.call('LRANGE', kids_key(p.id), at, at + math.min(most - open, AT_ONCE - #fresh) - 1)) do
      at = at + 1
      if redis.call('HGET', key_of(id), 'state') == 'blocked' then  -- else it was cancelled before its turn
        open = open + 1
        fresh[#fresh + 1] = id
      end
    end
  end
  change(p, {next = int(at), open = int(open)})
  for _, id in ipairs(fresh) do ready(id) end
end

local function branch_ended(p, kid)
  if kid.position == 'gather' then return p.phase == 'gather' and gather_ended(p, kid) end
  local field = kid.state == 'completed' and 'ok' or (kid.skipped ~= '1' and 'bad' or 'passed')
  local changes = {ended = int(num(p.ended) + 1), [field] = int(num(p[field]) + 1)}
  if num(kid.position) < num(p.next) then changes.open = int(num(p.open) - 1) end
  change(p, changes)
  if p.state ~= 'running' then return end
  if p.stopping == '' and num(p.ended) < num(p.total) then
    local to, reason = decided(p, kid)
    if to then
      change(p, {stopping = to, reason = reason, code = 'branch_failed'})
      stop_some(p.id)
      p = load_parent(p.id)
    end
  end
  if p.state ~= 'running' or p.phase ~= '' then return end
  if num(p.ended) >= num(p.total) then
    branches_over(p)
  elseif p.stopping == '' then
    open_more(p)
  end
end

-- -- both

ended = function(id, kid)
  local p = load_parent(id)
  if not p then return end
  if not is_chain(id) then
    if not final(p.state) then branch_ended(p, kid) end
  elseif p.state == 'running' and num(kid.position) == num(p.ended) then  -- else cancelled ahead of its turn
    step_ended(p, kid)
  end
end

local function start_parent(p)
  change(p, {
    state = 'running', started_ms = int(now), since_ms = int(now), open = is_chain(p.id) and '1' or '',
    event_id = event('start', p.id, {state = 'running', was = 'blocked'}),
  })
  if p.timeout_ms ~= '' then
    redis.call('ZADD', P .. ':deadlines', int(now + num(p.timeout_ms)), p.id)
  else
    redis.call('ZREM', P .. ':deadlines', p.id)
  end
  if is_chain(p.id) then
    local kid = ready(redis.call('LINDEX', kids_key(p.id), num(p.ended)))
    if kid then step_ended(p, kid) end
    return
  end
  open_more(p)
  p = load_parent(p.id)
  if p.state == 'running' and p.phase == '' and num(p.ended) >= num(p.total) then branches_over(p) end
end

-- A child's turn has come. Answers the child if it had ended before.
ready = function(id)
  if is_parent(id) then
    local p = load_parent(id)
    if final(p.state) then return p end
    return start_parent(p)
  end
  local t = load_task(id)
  if final(t.state) then return t end
  if t.state ~= 'blocked' then return nil end
  local changes = {}
  if t.session_of ~= '' then  -- it continues what another step began, where that step's files are
    local v = redis.call('HMGET', task_key(t.session_of), 'session_id', 'session_cost', 'node')
    if v[1] then
      changes = {session_id = v[1], session_cost = v[2] or '', node = v[3] or '', next_kind = 'continuation'}
    end
  end
  move(t, 'unblock', 'pending', changes)
  bells[#bells + 1] = bell(t)
  return nil
end

-- New nodes, each after its parent: {'p' or 't', id, parent or '', 'gather' or '', n, field, value...}... from ARGV[at].
-- What is there already stays as it is: the call was repeated after a lost answer.
local function add_nodes(at)
  while at <= #ARGV do
    local kind, id, parent, place = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
    local to = at + 4 + ARGV[at + 4]
    local given = {unpack(ARGV, at + 5, to)}
    if redis.call('EXISTS', key_of(id)) == 0 then
      local position = place
      if parent ~= '' and place == '' then position = int(redis.call('RPUSH', kids_key(parent), id) - 1) end
      if parent ~= '' then
        for _, part in ipairs({'parent', parent, 'position', position}) do given[#given + 1] = part end
      end
      if kind == 't' then
        birth(id, 'blocked', given)
      else
        redis.call('HSET', parent_key(id), 'state', 'blocked', 'created_ms', int(now), 'since_ms', int(now),
          'event_id', event('submit', id, {state = 'blocked'}), unpack(given))
        for i = 1, #given, 2 do
          if given[i] == 'budget' then redis.call('HSET', ledger(id), 'limit', given[i + 1]) end
        end
        if parent == '' then
          redis.call('ZADD', P .. ':graphs', redis.call('HINCRBY', P .. ':meta', 'born', 1), id)
        end
      end
    end
    at = to + 1
  end
end
