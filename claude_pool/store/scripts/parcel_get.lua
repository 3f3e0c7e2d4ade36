-- parcel_get <name> <'1' for the data, too>: {facts, data or ''}, or nothing

local v = redis.call('HMGET', P .. ':parcel:' .. ARGV[1], 'facts', ARGV[2] == '1' and 'data' or '')
if not v[1] then return {} end
return {v[1], v[2] or ''}
