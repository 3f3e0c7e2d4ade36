-- graph_launch <root>: it begins; called again, a wide fan-out makes its next branches ready.
-- Answers {state, bells, 1 when there is more to be made ready}, or nothing when there is no such root.

local p = load_parent(ARGV[1])
if not p then return {} end
if p.state == 'blocked' then
  start_parent(p)
elseif p.state == 'running' and not is_chain(p.id) and p.phase == '' and p.stopping == '' then
  open_more(p)
end
p = load_parent(ARGV[1])
local more = p.state == 'running' and not is_chain(p.id) and p.stopping == '' and p.cap == ''
return {p.state, bells, more and num(p.next) < num(p.total) and 1 or 0}
