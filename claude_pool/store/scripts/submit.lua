-- submit <idempotency ttl, ms> {<id> <key's hash or ''> <request hash> <n> [field value]...}...   (n: fields and values)
-- New tasks, all or none. Answers {'done', {id, state, created}...}, or why not: reused, drained, taken, or
-- unknown: a task whose session is wanted; each with an id.
-- Many at once, because each call costs the server one write to its disk.

local ttl_ms = ARGV[1]

local function requests()
  local at = 2
  return function()
    if at > #ARGV then return nil end
    local r = {id = ARGV[at], key = ARGV[at + 1], hash = ARGV[at + 2], from = at + 4, to = at + 3 + ARGV[at + 3]}
    at = r.to + 1
    return r
  end
end

-- What this key made before: its task, if that is still there, and the hash of its request.
local function known(key, fresh)
  if key == '' then return nil end
  if fresh[key] then return fresh[key].id, fresh[key].hash end
  local task_id, hash = string.match(redis.call('GET', P .. ':idem:' .. key) or '', '^(%S+) (%S+)$')
  if task_id and redis.call('EXISTS', task_key(task_id)) == 1 then return task_id, hash end
  return nil
end

local function field(r, name)
  for i = r.from, r.to, 2 do
    if ARGV[i] == name then return ARGV[i + 1] end
  end
  return ''
end

local fresh, new = {}, 0
for r in requests() do
  local given = redis.call('HGET', task_key(r.id), 'request')
  if given and given ~= r.hash then return {'taken', r.id} end
  local task_id, hash = known(r.key, fresh)
  if hash and hash ~= r.hash then return {'reused', task_id} end
  if r.key ~= '' and not task_id then fresh[r.key] = r end
  if not task_id and not given then
    new = new + 1
    local other = string.match(field(r, 'session'), ':(t%-.+)$')
    if other and redis.call('EXISTS', task_key(other)) == 0 then return {'unknown', other} end
  end
end
if new > 0 and redis.call('HGET', P .. ':meta', 'accepting') == '0' then return {'drained', ''} end

local function store(r)
  birth(r.id, 'pending', {'request', r.hash, 'idem', r.key, unpack(ARGV, r.from, r.to)})
  if r.key ~= '' then redis.call('SET', P .. ':idem:' .. r.key, r.id .. ' ' .. r.hash, 'PX', ttl_ms) end
end

local answers = {'done'}
for r in requests() do
  local task_id = known(r.key, {}) or r.id
  local state = redis.call('HGET', task_key(task_id), 'state')
  local created = task_id == r.id  -- also when this very call was carried out before and its answer was lost
  if not state then
    store(r)
    state = 'pending'
  end
  answers[#answers + 1] = {task_id, state, created and 1 or 0}
end
return answers
