-- context_get <field>
-- A value of the shared context, then those it had before, the latest first; nothing when there is none.

local value = redis.call('HGET', P .. ':context', ARGV[1])
if not value then return {} end
return {value, unpack(redis.call('LRANGE', P .. ':context_old:' .. ARGV[1], 0, -1))}
