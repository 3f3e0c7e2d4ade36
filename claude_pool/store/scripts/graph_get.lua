-- graph_get <children: 1 or 0> [id]...: the record of each chain or fan-out, its ledger, its children.
-- Nothing where there is none.

local found = {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local values = redis.call('HMGET', parent_key(id), unpack(WHOLE))
  if values[1] then
    local kids = ARGV[1] == '1' and redis.call('LRANGE', kids_key(id), 0, -1) or {}
    found[i - 1] = {values, redis.call('HMGET', ledger(id), 'limit', 'reserved', 'spent'), kids}
  else
    found[i - 1] = {}
  end
end
return found
