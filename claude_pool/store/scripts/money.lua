-- The ledger: per scope `limit`, `reserved`, `spent`. A claim reserves in every scope of its task or in none; a finish
-- or a loss settles once. A task's own scope is its record: `cap`, `reserved`, `cost`.

local LEAST = 10000             -- a run with less than one cent left is not worth its start
local MAX_LOOK = 1000           -- waiting tasks looked at when money comes free

local function ledger(scope) return P .. ':ledger:' .. scope end

-- What a scope has left; nil when it has no limit.
local function room(scope)
  local v = redis.call('HMGET', ledger(scope), 'limit', 'reserved', 'spent')
  if not v[1] then return nil end
  return num(v[1]) - num(v[2]) - num(v[3])
end

-- A task without a limit of its own, in a scope that has one, gets an equal part of what is left for each idle slot:
-- so the ledger stays exact, no slot starves, and one after the other may still use all of it.
local function share(left)
  local idle = redis.call('ZCOUNT', P .. ':slots', '(' .. int(now), '+inf') - redis.call('SCARD', P .. ':busy')
  return math.max(math.floor(left / math.max(idle, 1)), 0)
end

-- What a claim must reserve (nil: nothing limits it), or nil, the scope that refuses and what is needed there.
local function need_of(t, default_cap)
  local cap = t.cap ~= '' and t.cap or default_cap
  local need = cap ~= '' and num(cap) - num(t.cost) or nil
  if need and need <= 0 then return nil, t.id, 1 end
  local part
  for _, scope in ipairs(names_in(t.scopes)) do
    local left = room(scope)
    if left and need and need > left then return nil, scope, need end
    if left and not need then
      if share(left) < LEAST then return nil, scope, LEAST end
      part = math.min(part or share(left), share(left))
    end
  end
  return need or part
end

local function reserve(t, amount)
  for _, scope in ipairs(names_in(t.scopes)) do redis.call('HINCRBY', ledger(scope), 'reserved', int(amount)) end
end

-- Tasks parked for this scope's money that would fit now, oldest first, without those that are too dear.
local function fitting(scope, limit)
  local left, found = room(scope), {}
  for _, id in ipairs(redis.call('ZRANGE', P .. ':waits:budget:' .. scope, 0, MAX_LOOK - 1)) do
    local need = num(redis.call('HGET', task_key(id), 'need'))
    if #found < limit and (left == nil or need <= left) then
      found[#found + 1] = id
      if left then left = left - need end
    end
  end
  return found
end

-- They are due now; the housekeeper wakes them.
local function call_waiting(scope)
  for _, id in ipairs(fitting(scope, MAX_LOOK)) do redis.call('ZADD', P .. ':due', int(now), id) end
end

-- The reservation becomes a cost, in every scope. `cost` may be negative: a pessimistic estimate that is corrected.
local function settle(t, cost)
  local held = num(t.reserved)
  for _, scope in ipairs(names_in(t.scopes)) do
    if held ~= 0 then redis.call('HINCRBY', ledger(scope), 'reserved', int(-held)) end
    if cost ~= 0 then redis.call('HINCRBY', ledger(scope), 'spent', int(cost)) end
    if held > cost then call_waiting(scope) end
  end
  return {reserved = '', cost = int(num(t.cost) + cost)}
end
