-- graph_cancel <id> <reason> <after: 1 or 0>: ends a chain or a fan-out. Answers {its state, bells}, or nothing.

local p = load_parent(ARGV[1])
if not p then return {} end
stop_parent(p, 'cancelled', ARGV[2], 'cancelled', ARGV[3] == '1' and is_chain(p.id))
return {redis.call('HGET', parent_key(p.id), 'state'), bells}
