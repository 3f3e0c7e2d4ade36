-- walk <index> <after id or ''> <count>: the next ids of an index, newest first, with what a filter looks at.
-- Answers nothing at all when the id to go on from is not in the index.

local key, after, count = P .. ':' .. ARGV[1], ARGV[2], tonumber(ARGV[3])
local from = 0
if after ~= '' then
  local rank = redis.call('ZREVRANK', key, after)
  if not rank then return false end
  from = rank + 1
end
local found = {}
for i, id in ipairs(redis.call('ZREVRANGE', key, from, from + count - 1)) do
  local v = redis.call('HMGET', task_key(id), 'state', 'submitter', 'tags')
  found[i] = {id, v[1] or '', v[2] or '', v[3] or ''}
end
return found
