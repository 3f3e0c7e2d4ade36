-- context_delete <field>
-- Forgets a value of the shared context, with its history. 1, or 0 when there was none.

local value = redis.call('HGET', P .. ':context', ARGV[1])
if not value then return 0 end
redis.call('HDEL', P .. ':context', ARGV[1])
redis.call('DEL', P .. ':context_old:' .. ARGV[1])
redis.call('DECRBY', P .. ':context_bytes', #value)
return 1
