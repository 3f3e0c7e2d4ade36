-- graph_outcomes [task]...: what each has to say to others.

local found = {}
for i, id in ipairs(ARGV) do found[i] = redis.call('HMGET', task_key(id), unpack(OUTCOME)) end
return found
