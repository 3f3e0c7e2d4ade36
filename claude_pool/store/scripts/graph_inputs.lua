-- graph_inputs <chain or ''> <previous: 1 or 0> [id]...: what a step is made of.
-- {the chain's arguments, its last output's id or '', its branch's tip or '', {id, outcome's fields...} or {id, children...} of a fan-out}

local chain, found, seen = ARGV[1], {}, {}
local v = chain ~= '' and redis.call('HMGET', parent_key(chain), 'args', 'previous', 'tip') or {}

local function add(id)
  if seen[id] then return end
  seen[id] = true
  if is_parent(id) then
    found[#found + 1] = {id, '', redis.call('LRANGE', kids_key(id), 0, -1)}
  else
    found[#found + 1] = {id, redis.call('HMGET', task_key(id), unpack(OUTCOME)), {}}
  end
end

local previous = ARGV[2] == '1' and v[2] or ''
if previous ~= '' then add(previous) end
for i = 3, #ARGV do add(ARGV[i]) end
return {v[1] or '', previous, v[3] or '', found}
