-- decide <approve, reject, hold or let_go> <id> <run id> <who> <by> <feedback, or ms to hold>
-- A reviewer's word on what one run brought, each a step of its own: of several who speak at once one is heard. Who has
-- something to do before approving (a merge) holds the decision meanwhile, `who` being a word of his own; a hold that
-- nobody comes back to is over by itself. Answers done, with the record and doorbells, or unknown, state, run or held.

local what, id, run_id, who, by, word = unpack(ARGV)
local SHOWN = 262144            -- bytes of a rejected answer that stay in the task's history

local t = load_task(id)
if not t then return {'unknown'} end
local held = redis.call('HMGET', task_key(id), 'deciding', 'deciding_until')
local others = held[1] and held[1] ~= who and num(held[2]) > now

local function answer(more)
  local rung = {unpack(bells)}
  rung[#rung + 1] = more
  return {'done', record(id), rung}
end

if what == 'let_go' then
  if held[1] == who then redis.call('HDEL', task_key(id), 'deciding', 'deciding_until') end
  return answer()
end
if t.state ~= 'pending_review' then return {'state', t.state} end
if run_id ~= t.run_id then return {'run', t.run_id} end
if others then return {'held'} end
if what == 'hold' then
  redis.call('HSET', task_key(id), 'deciding', who, 'deciding_until', int(now + num(word)))
  return answer()
end

-- What came of the run, in the task's history.
local function note(fields)
  local key = P .. ':runs:' .. id
  local entry = cjson.decode(redis.call('LINDEX', key, -1) or '{}')
  if entry.run_id ~= t.run_id then return end
  for name, value in pairs(fields) do entry[name] = value end
  redis.call('LSET', key, -1, cjson.encode(entry))
end

-- The answer that is being rejected: a text, else the data.
local function rejected_answer()
  local result = cjson.decode(redis.call('HGET', task_key(id), 'result') or '{}')
  local text = result.output
  if type(text) ~= 'string' or text == '' then
    local data = result.structured_output
    text = data ~= nil and data ~= cjson.null and cjson.encode(data) or ''
  end
  if #text <= SHOWN then return text end
  local last = SHOWN
  while last > 0 and string.byte(text, last + 1) >= 128 and string.byte(text, last + 1) < 192 do last = last - 1 end
  return string.sub(text, 1, last)
end

local changes = {deciding = '', deciding_until = ''}
if what == 'approve' then
  note({['then'] = 'completed: approved by ' .. by})
  move(t, 'approve', 'completed', changes, 'approved by ' .. by)
  return answer()
end

local said = redis.call('HGET', task_key(id), 'feedback')
said = said and cjson.decode(said) or {}
said[#said + 1] = word
local times = num(t.rejections) + 1
changes.feedback, changes.rejections = cjson.encode(said), int(times)
local last = times >= num(t.max_rejections)
note({outcome = 'rejected', feedback = word, output = rejected_answer(),
  ['then'] = (last and 'failed' or 'pending') .. ': rejected by ' .. by})
if last then
  changes.error = cjson.encode({
    code = 'rejected', detail = word,
    message = 'Rejected ' .. (times == 1 and 'once' or int(times) .. ' times') .. ', and max_rejections is '
      .. t.max_rejections .. '.',
  })
  move(t, 'fail', 'failed', changes, 'rejected by ' .. by .. ', limit of rejections')
  return answer()
end
changes.result = ''
changes.next_kind = t.session_id ~= '' and 'continuation' or 'attempt'
move(t, 'reject', 'pending', changes, 'rejected by ' .. by)
return answer(bell(t))
