-- parcel_put <name> <facts> <data> <time to live, ms> <most bytes of all parcels>
-- Keeps what travels between nodes, and lets the oldest go when all together are too much. 1, or 0 when it alone is.

local name, facts, data, ttl_ms, most = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local index, sizes = P .. ':parcels', P .. ':parcel_sizes'
if #data > most then return 0 end

local function drop(one)
  redis.call('HINCRBY', sizes, '', -num(redis.call('HGET', sizes, one)))
  redis.call('HDEL', sizes, one)
  redis.call('ZREM', index, one)
  redis.call('DEL', P .. ':parcel:' .. one)
end

redis.call('HSET', P .. ':parcel:' .. name, 'facts', facts, 'data', data)
redis.call('PEXPIRE', P .. ':parcel:' .. name, ttl_ms)
redis.call('ZADD', index, int(now), name)
local before = num(redis.call('HGET', sizes, name))
redis.call('HSET', sizes, name, #data)
local total = redis.call('HINCRBY', sizes, '', #data - before)
for _, old in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', int(now - ttl_ms), 'LIMIT', 0, 100)) do
  if old ~= name then drop(old) end
end
total = num(redis.call('HGET', sizes, ''))
while total > most do
  local oldest = redis.call('ZRANGE', index, 0, 0)[1]
  if not oldest or oldest == name then break end
  drop(oldest)
  total = num(redis.call('HGET', sizes, ''))
end
return 1
