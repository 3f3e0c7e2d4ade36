-- prepare <new epoch> <epoch as remembered, or ''> <schema>: makes the store if it is new. {epoch, schema} as they are.

local key, remembered = P .. ':meta', ARGV[2]
if remembered == '' and redis.call('HSETNX', key, 'epoch', ARGV[1]) == 1 then
  redis.call('HSET', key, 'schema', ARGV[3], 'created_ms', int(now), 'accepting', '1')
end
local v = redis.call('HMGET', key, 'epoch', 'schema')
return {v[1] or '', v[2] or ''}
