-- One breaker per account. Open: nobody who needs the account starts. When its time has come exactly one run goes
-- first, as a probe; a run that ends well closes the breaker and calls everybody who waits.

local FAILURES = 5              -- so many failures ...
local WINDOW_MS = 60000         -- ... within this open it ...
local OPEN_MS = 30000           -- ... for this long, doubling while probes fail ...
local OPEN_MAX_MS = 600000      -- ... up to this
local PROBE_MS = 30000          -- while a probe runs, the others look again after this

local function breaker(account) return P .. ':breaker:' .. account end

local function probing(probe)
  if not probe then return false end
  local id, run_id = string.match(probe, '^(%S+) (%S+)$')
  if not id then return false end
  local v = redis.call('HMGET', task_key(id), 'state', 'run_id')
  return v[1] and at_work(v[1]) and v[2] == run_id
end

-- How a claim has to be parked, or nil and whether it would be the probe.
local function closed_door(t)
  local v = redis.call('HMGET', breaker(t.account), 'state', 'until', 'code', 'probe')
  if v[1] ~= 'open' then return nil, false end
  local opens = v[2] and num(v[2]) or nil
  if opens and opens <= now then
    if not probing(v[4]) then return nil, true end
    opens = now + PROBE_MS
  end
  return {
    parked_for = v[3] == 'usage_limit' and 'limit' or 'breaker',
    until_ms = opens and int(opens) or '',
    waits = 'breaker:' .. t.account,
  }, false
end

local function close_breaker(account, reason)
  local key, waits = breaker(account), P .. ':waits:breaker:' .. account
  local was = redis.call('HGET', key, 'state')
  redis.call('DEL', key)
  if was ~= 'open' then return false end
  for _, id in ipairs(redis.call('ZRANGE', waits, 0, -1)) do redis.call('ZADD', P .. ':due', int(now), id) end
  event('close', 'account:' .. account, {reason = reason})
  return true
end

local function open_breaker(account, v)
  local key = breaker(account)
  redis.call('HSET', key, 'state', 'open', 'code', v.breaker_code or '', 'message', v.breaker_message or '',
    'opened_ms', int(now))
  if v.breaker_until then
    redis.call('HSET', key, 'until', v.breaker_until)
  else
    redis.call('HDEL', key, 'until')
  end
  redis.call('HDEL', key, 'probe')
  event('open', 'account:' .. account, {reason = v.breaker_code})
end

-- One more failure: opens the breaker when there were many, and again, for longer, when it was the probe's.
local function count_failure(t, v)
  local key = breaker(t.account)
  local was = redis.call('HMGET', key, 'state', 'failures', 'first_ms', 'opens', 'probe')
  local failures, first = num(was[2]) + 1, num(was[3])
  if now - first > WINDOW_MS then failures, first = 1, now end
  redis.call('HSET', key, 'failures', int(failures), 'first_ms', int(first))
  local enough = was[1] ~= 'open' and failures >= FAILURES
  if not enough and was[5] ~= t.id .. ' ' .. t.run_id then return end
  local opens = num(was[4])
  redis.call('HSET', key, 'opens', int(opens + 1))
  v.breaker_until = v.breaker_until or int(now + math.min(OPEN_MS * 2 ^ opens, OPEN_MAX_MS))
  open_breaker(t.account, v)
end

-- What a run says about its account. A run that began before the breaker opened proves nothing by ending well.
local function report(t, v, well)
  if v.breaker == 'open' then
    open_breaker(t.account, v)
  elseif v.breaker == 'failure' then
    count_failure(t, v)
  elseif v.breaker == 'close' or well then
    local opened = redis.call('HGET', breaker(t.account), 'opened_ms')
    if not opened or num(t.claimed_ms) >= num(opened) then close_breaker(t.account, t.id) end
  end
end
