-- lead <holder> <ttl, ms>: takes or keeps the housekeeper's lease. 1 when it is ours.

local key = P .. ':leader'
local held = redis.call('GET', key)
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', key, ARGV[1], 'PX', ARGV[2])
return 1
