-- set_accepting <0 or 1>

redis.call('HSET', P .. ':meta', 'accepting', ARGV[1])
event(ARGV[1] == '1' and 'accept' or 'drain', 'pool', {})
return 1
