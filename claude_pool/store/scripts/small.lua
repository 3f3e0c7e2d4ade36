-- small <most> <after id or ''> [state]...: tasks in these states, newest first, as walk.lua gives them.
-- Answers many when there are more than that, gone when the id to go on from is not known.

local most, after, total = tonumber(ARGV[1]), ARGV[2], 0
for i = 3, #ARGV do total = total + redis.call('ZCARD', P .. ':state:' .. ARGV[i]) end
if total > most then return {'many'} end
local function born(id) return num(redis.call('ZSCORE', P .. ':index', id)) end
local limit = after ~= '' and born(after) or nil
if limit == 0 then return {'gone'} end

local function older(a, b)  -- the order of the index, from its newer end
  if a.born ~= b.born then return a.born < b.born end
  return a.id < b.id
end

local found = {}
for i = 3, #ARGV do
  for _, id in ipairs(redis.call('ZRANGE', P .. ':state:' .. ARGV[i], 0, -1)) do
    local one = {id = id, born = born(id)}
    if not limit or older(one, {id = after, born = limit}) then found[#found + 1] = one end
  end
end
table.sort(found, function(a, b) return older(b, a) end)
local rows = {}
for i, one in ipairs(found) do
  local v = redis.call('HMGET', task_key(one.id), 'state', 'submitter', 'tags')
  rows[i] = {one.id, v[1] or '', v[2] or '', v[3] or ''}
end
return {'found', rows}
