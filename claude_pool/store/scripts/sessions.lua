-- Conversations of the CLI, by their session's id: which one a run goes on with, and that one run at a time works in it.
-- Who works in it is told by the run's own record: a holder that is not at work holds nothing, so no lock is left over.

local SESSION_MS = 2592000000   -- what is known of a conversation is kept so long after its last run
local LOOK_MS = 300000          -- who waits for one is called; for want of a call, looks again after this

local function session_key(sid) return P .. ':session:' .. sid end

local function name_key(name) return P .. ':name:' .. name end

-- Whether a run of another task works in it.
local function taken(sid, by)
  local id, run_id = string.match(redis.call('HGET', session_key(sid), 'holder') or '', '^(%S+) (%S+)$')
  if not id or id == by then return false end
  local v = redis.call('HMGET', task_key(id), 'state', 'run_id')
  return v[1] and at_work(v[1]) and v[2] == run_id
end

local function hold_session(t, sid, began)
  local key = session_key(sid)
  redis.call('HSET', key, 'holder', t.id .. ' ' .. t.run_id, 'node', t.node)
  if began then redis.call('HSET', key, 'began', '1') end
  redis.call('PEXPIRE', key, SESSION_MS)
end

-- The task that used it last is forgotten, and with it the conversation, unless a name stands for it.
local function drop_session(sid, id)
  local v = redis.call('HMGET', session_key(sid), 'holder', 'named')
  if not v[2] and string.match(v[1] or '', '^%S+') == id then redis.call('DEL', session_key(sid)) end
end

local function note_cost(sid, cost)
  redis.call('HSET', session_key(sid), 'cost', cost)
  redis.call('PEXPIRE', session_key(sid), SESSION_MS)
end

-- The conversation that a name stands for is not there any more: the next run under that name begins a new one.
local function forget_name(t)
  local name = string.match(t.session, '^name:(.+)$')
  if name and redis.call('GET', name_key(name)) == t.locks then redis.call('DEL', name_key(name)) end
end

local function of_name(name, fresh)
  local sid = redis.call('GET', name_key(name)) or fresh
  redis.call('SET', name_key(name), sid, 'PX', SESSION_MS)
  redis.call('HSET', session_key(sid), 'named', '1')
  if redis.call('HGET', session_key(sid), 'began') then return {resume = sid} end
  return {begin = sid}
end

local function of_task(other, forks)
  local v = redis.call('HMGET', task_key(other), 'state', 'session_id', 'session_cost')
  if not v[1] then return {gone = 'The task ' .. other .. ', whose session was to be used, is no longer there.'} end
  if not final(v[1]) and v[1] ~= 'pending_review' then return {wait = 'after:' .. other} end
  if not v[2] then return {gone = 'The task ' .. other .. ' never had a session.'} end
  return {resume = v[2], forks = forks, cost = v[3]}
end

-- What a run goes on with: `resume` an id (`forks`: a copy of it), or `begin` one, or neither; `wait` says what for,
-- `gone` why it can't be, `elsewhere` on which node. `fresh` is an id that nobody has.
local function conversation(t, fresh, node)
  local own = t.next_kind == 'continuation' and t.session_id ~= ''
  local how, what = string.match(t.session, '^(%a+):(.+)$')
  local talk = {}
  if own then
    talk = {resume = t.session_id, cost = t.session_cost, own = true}
  elseif how then
    talk = how == 'name' and of_name(what, fresh) or of_task(what, how == 'fork')
  end
  local sid = talk.resume or talk.begin
  if not sid then return talk end
  local v = redis.call('HMGET', session_key(sid), 'cost', 'node')
  talk.cost = v[1] or talk.cost
  if taken(sid, t.id) then talk.wait = 'session:' .. sid end
  if talk.resume and not own and v[2] and v[2] ~= node then
    local deadline = redis.call('ZSCORE', P .. ':nodes', v[2])
    if deadline and num(deadline) > now then talk.elsewhere = v[2] end
  end
  return talk
end
