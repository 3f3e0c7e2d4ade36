-- oldest <state> <first> <count>: ids of the tasks in a state, those first that came into it first.

return redis.call('ZRANGE', P .. ':state:' .. ARGV[1], ARGV[2], ARGV[2] + ARGV[3] - 1)
