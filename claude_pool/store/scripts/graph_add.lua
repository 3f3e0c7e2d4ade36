-- graph_add <root> <time to be launched, ms> <node>...   (nodes as add_nodes reads them)
-- Part of a new chain or fan-out; nothing of it can run before the launch. Answers done or drained.

if redis.call('EXISTS', parent_key(ARGV[1])) == 0 and redis.call('HGET', P .. ':meta', 'accepting') == '0' then
  return 'drained'
end
add_nodes(3)
if redis.call('HGET', parent_key(ARGV[1]), 'state') == 'blocked' then
  redis.call('ZADD', P .. ':deadlines', int(now + tonumber(ARGV[2])), ARGV[1])
end
return 'done'
