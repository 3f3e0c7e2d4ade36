-- prepare <new epoch> <epoch and moves as remembered, or ''> <schema>: makes the store if it is new.
-- {epoch, schema, moves} as they are, and 1 if it is not the store that is remembered.

local key, remembered = P .. ':meta', ARGV[2]
if remembered == '' and redis.call('HSETNX', key, 'epoch', ARGV[1]) == 1 then
  redis.call('HSET', key, 'schema', ARGV[3], 'created_ms', int(now), 'accepting', '1')
end
local other = reset_for_all(remembered) and 1 or 0
local v = redis.call('HMGET', key, 'epoch', 'schema')
return {v[1] or '', v[2] or '', moves(), other}
