-- What every script begins with: the clock, the record, the one way to move it, and the event of each move.
-- KEYS[1] is the pool's name, the prefix of all keys (claude_pool/keys.py). MOVES, FACTS and RECORD come from Python
-- before this text: the lifecycle table, the fields that transitions read, the fields that callers get back.
-- Absent fields read as ''. Times are milliseconds of this server, money is whole micro-dollars.

local P = KEYS[1]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)

local BELL_MS = 60000           -- a pending task's doorbell is rung again after this, then twice as long, ...
local BELL_MAX_MS = 3600000     -- ... up to this
local MAX_EVENTS = 100000
local MAX_RUNS = 100            -- runs kept in a task's history

local function num(text) return tonumber(text) or 0 end

local function int(value) return string.format('%.0f', num(value)) end

local function names_in(text)
  local found = {}
  for name in string.gmatch(text, '[^,]+') do found[#found + 1] = name end
  return found
end

local function named(first)
  local found = {}
  for i = first, #ARGV, 2 do found[ARGV[i]] = ARGV[i + 1] end
  return found
end

local function task_key(id) return P .. ':task:' .. id end

local function slot_key(slot) return P .. ':slot:' .. slot end

local function record(id) return redis.call('HMGET', task_key(id), unpack(RECORD)) end

local function load_task(id)
  local values = redis.call('HMGET', task_key(id), unpack(FACTS))
  if not values[1] then return nil end
  local t = {id = id}
  for i, name in ipairs(FACTS) do t[name] = values[i] or '' end
  return t
end

-- HSET before HDEL, as XADD before both in a move: on a full server the first write has to be one that needs memory,
-- so that it is refused before anything has changed.
local function put(t, changes)
  local set, gone = {}, {}
  for name, value in pairs(changes) do
    t[name] = value
    if value == '' then
      gone[#gone + 1] = name
    else
      set[#set + 1] = name
      set[#set + 1] = value
    end
  end
  if #set > 0 then redis.call('HSET', task_key(t.id), unpack(set)) end
  if #gone > 0 then redis.call('HDEL', task_key(t.id), unpack(gone)) end
end

local function event(verb, subject, fields)
  local entry = {'verb', verb, 'subject', subject}
  for _, name in ipairs({'state', 'was', 'run_id', 'slot', 'reason'}) do
    local value = fields[name]
    if value and value ~= '' then
      entry[#entry + 1] = name
      entry[#entry + 1] = value
    end
  end
  local id = redis.call('XADD', P .. ':events', 'MAXLEN', '~', MAX_EVENTS, '*', unpack(entry))
  redis.call('HINCRBY', P .. ':meta', 'moves', 1)
  return id
end

-- How much has happened here in all: whoever has seen more than that has seen another store.
local function moves() return num(redis.call('HGET', P .. ':meta', 'moves')) end

local function ring_name(name, why)
  redis.call('XADD', P .. ':wake:' .. name, 'MAXLEN', '~', 16, '*', 'why', why)
end

local function at_work(state) return state == 'claimed' or state == 'running' end

local function waits(state) return state == 'parked' or state == 'pending_review' end

local function final(state) return state == 'completed' or state == 'failed' or state == 'cancelled' end

-- The indexes of the state that a task is in now.
local function enter(t)
  local id, state = t.id, t.state
  redis.call('ZADD', P .. ':state:' .. state, int(now), id)
  if state == 'pending' then
    redis.call('ZADD', P .. ':bells', int(now + BELL_MS), id)
  elseif state == 'parked' then
    if t.until_ms ~= '' then redis.call('ZADD', P .. ':due', int(t.until_ms), id) end
    if t.waits ~= '' then  -- in the order of creation: who is parked again keeps its place
      redis.call('ZADD', P .. ':waits:' .. t.waits, redis.call('ZSCORE', P .. ':index', id) or '0', id)
    end
  elseif state == 'pending_review' then
    redis.call('ZADD', P .. ':reviews', int(now), id)
    if t.until_ms ~= '' then redis.call('ZADD', P .. ':due', int(t.until_ms), id) end
  end
end

local function leave(t, to)
  local id, state = t.id, t.state
  redis.call('ZREM', P .. ':state:' .. state, id)
  if state == 'pending' then
    redis.call('ZREM', P .. ':bells', id)
  elseif state == 'parked' then
    redis.call('ZREM', P .. ':due', id)
    if t.waits ~= '' then redis.call('ZREM', P .. ':waits:' .. t.waits, id) end
  elseif state == 'pending_review' then
    redis.call('ZREM', P .. ':reviews', id)
    redis.call('ZREM', P .. ':due', id)
  elseif at_work(state) and not at_work(to) then
    redis.call('ZREM', P .. ':leases', id)
  end
end

local child_moved               -- in graph.lua: a step or a branch moved, and its chain or fan-out may have to follow

-- Nothing more happens to it until somebody acts.
local function rests(state, until_ms)
  return state == 'pending_review' or (state == 'parked' and until_ms == '')
end

local function may(state, verb, to)
  local from = MOVES[verb] and MOVES[verb][state]
  return from and from[to] or false
end

-- Who is parked for this is due now; the housekeeper wakes them.
local function call_all(what)
  for _, id in ipairs(redis.call('ZRANGE', P .. ':waits:' .. what, 0, -1)) do
    redis.call('ZADD', P .. ':due', int(now), id)
  end
end

-- The only way a state changes: checked against the table, one event each.
local function move(t, verb, to, changes, reason)
  if not may(t.state, verb, to) then
    error('ILLEGAL move: ' .. verb .. ' from ' .. t.state .. ' to ' .. to)
  end
  local was, waited = t.state, {id = t.id, state = t.state, waits = t.waits}
  local rested = rests(t.state, t.until_ms)
  changes.state = to
  changes.since_ms = int(now)
  if waits(was) or waits(to) then
    for _, name in ipairs({'parked_for', 'until_ms', 'waits', 'need'}) do
      if not waits(to) or changes[name] == nil then changes[name] = '' end
    end
  end
  if to == 'pending' then
    changes.rings = ''
    changes.rung_ms = int(now)
  end
  if final(to) then changes.cancel_requested = '' end
  local run_id, slot = changes.run_id or t.run_id, changes.slot or (at_work(was) and t.slot or '')
  changes.event_id = event(verb, t.id, {state = to, was = was, run_id = run_id, slot = slot, reason = reason})
  put(t, changes)
  leave(waited, to)
  enter(t)
  if at_work(was) and not at_work(to) and t.locks ~= '' then call_all('session:' .. t.locks) end
  if final(to) or to == 'pending_review' then call_all('after:' .. t.id) end
  if t.parent ~= '' then child_moved(t, rested) end
end

-- A new task, with all its indexes.
local function birth(id, state, given)
  local t = {id = id, state = state, until_ms = '', waits = ''}
  redis.call('HSET', task_key(id), 'state', state, 'event_id', event('submit', id, {state = state}),
    'created_ms', int(now), 'since_ms', int(now), 'rung_ms', int(now), unpack(given))
  local born = redis.call('HINCRBY', P .. ':meta', 'born', 1)  -- a count, because many are born in one millisecond
  redis.call('ZADD', P .. ':index', born, id)
  for i = 1, #given, 2 do
    if given[i] == 'tags' then
      for _, tag in ipairs(names_in(given[i + 1])) do redis.call('ZADD', P .. ':tag:' .. tag, born, id) end
    end
  end
  enter(t)
end

local LINKS = 19                -- doorbells that travel with one of a chain, to be rung after it

-- The steps that can be rung one after another behind this one, without looking at the store in between.
local function links_of(t)
  local found = {}
  if string.sub(t.parent, 1, 2) ~= 'c-' then return found end
  local at = num(t.position)
  for _, id in ipairs(redis.call('LRANGE', P .. ':kids:' .. t.parent, at + 1, at + LINKS)) do
    if string.sub(id, 1, 2) ~= 't-' then break end
    found[#found + 1] = id
  end
  return found
end

-- A doorbell: {id, queue, priority, group or '', links...}. A run that resumes a session goes where the session's files
-- are, while that node lives.
local function bell(t)
  local queue = t.queue
  local home = t.next_kind == 'continuation' and t.node or t.sits
  if home ~= '' then
    local deadline = redis.call('ZSCORE', P .. ':nodes', home)
    if deadline and num(deadline) > now then queue = 'node.' .. home end
  end
  return {t.id, queue, t.priority, string.sub(t.parent, 1, 2) == 'f-' and t.parent or '', unpack(links_of(t))}
end

-- Closes the current run in the task's history.
local function end_run(t, outcome, after, cost, estimated)
  local entry = {
    run_id = t.run_id, number = int(t.runs), kind = t.run_kind, slot = t.slot, node = t.node,
    claimed_ms = t.claimed_ms, ended_ms = int(now), cost = int(cost), outcome = outcome,
  }
  entry['then'] = after
  if t.session_id ~= '' then entry.session_id = t.session_id end
  if t.started_ms ~= '' then entry.started_ms = t.started_ms end
  if estimated then entry.estimated = '1' end
  redis.call('RPUSH', P .. ':runs:' .. t.id, cjson.encode(entry))
  redis.call('LTRIM', P .. ':runs:' .. t.id, -MAX_RUNS, -1)
end

-- The same for a run that was closed as lost and then reported after all.
local function amend_run(t, outcome, after, cost, estimated)
  local last = redis.call('LINDEX', P .. ':runs:' .. t.id, -1)
  if not last then return end
  local entry = cjson.decode(last)
  if entry.run_id ~= t.run_id then return end
  entry.cost, entry.outcome, entry['then'] = int(cost), outcome, after
  entry.estimated = estimated and '1' or nil
  redis.call('LSET', P .. ':runs:' .. t.id, -1, cjson.encode(entry))
end

local function free_slot(t, done)
  local key = slot_key(t.slot)
  if redis.call('HGET', key, 'run_id') ~= t.run_id then return end
  redis.call('HDEL', key, 'task_id', 'run_id')
  redis.call('HSET', key, 'since_ms', int(now))
  if done then redis.call('HINCRBY', key, 'tasks_done', 1) end
  redis.call('SREM', P .. ':busy', t.slot)
end

-- A store that was emptied or restored knows nothing of what this process does: it is told so, and writes nothing.
-- `seen` is the store's epoch and how much had happened by then, or ''. A copy from before that is another store.
local function reset(seen)
  if seen == '' then return false end
  local epoch, count = string.match(seen, '^(.-)@(%d+)$')
  local v = redis.call('HMGET', P .. ':meta', 'epoch', 'moves')
  return v[1] ~= (epoch or seen) or num(v[2]) < num(count)
end

-- The same; and those who have seen less, or will begin only now, are told by a new epoch.
local function reset_for_all(seen)
  if not reset(seen) then return false end
  local epoch = redis.call('HGET', P .. ':meta', 'epoch')
  if epoch and string.match(seen, '^(.-)@') == epoch then redis.call('HSET', P .. ':meta', 'epoch', epoch .. '+') end
  return true
end
