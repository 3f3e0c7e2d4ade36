-- detail <id>: the record, its texts and its history.

local id = ARGV[1]
local values = record(id)
if not values[1] then return {} end
local texts = redis.call('HMGET', task_key(id), 'prompt', 'result', 'feedback', 'run_kind', 'claimed_ms', 'started_ms')
return {values, texts, redis.call('LRANGE', P .. ':runs:' .. id, 0, -1)}
