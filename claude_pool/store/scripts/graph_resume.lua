-- graph_resume <chain> <first step that is new> <node>...: a chain that failed or was cancelled goes on with new tasks in
-- the place of the steps from there on. Answers {'done', bells}, or {its state} when it can't be resumed.

local p, from = load_parent(ARGV[1]), tonumber(ARGV[2])
if not p then return {'unknown'} end
if p.parent ~= '' or (p.state ~= 'failed' and p.state ~= 'cancelled') then return {p.state} end
if from == 0 then
  redis.call('DEL', kids_key(p.id))
else
  redis.call('LTRIM', kids_key(p.id), 0, from - 1)
end
add_nodes(3)
change(p, {
  state = 'blocked', ended = int(from), bad = '', error = '', ended_ms = '', stopping = '', halt = '', reason = '',
  code = '', held = '', waits_as = '',
})
redis.call('ZREM', P .. ':over', p.id)
event('resume', p.id, {reason = 'from step ' .. int(from + 1)})
start_parent(p)
return {'done', bells}
