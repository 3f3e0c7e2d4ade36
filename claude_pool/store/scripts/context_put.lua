-- context_put <field> <entry> <most entries> <most bytes> <most old values> <most bytes of these>
-- Sets a value of the shared context; the one before goes into the key's history.
-- {'set', when} or {'many', entries} or {'large', bytes}.

local field, stored = ARGV[1], int(now) .. ' ' .. ARGV[2]
local all, sum, old = P .. ':context', P .. ':context_bytes', P .. ':context_old:' .. ARGV[1]
local before = redis.call('HGET', all, field)
local entries = redis.call('HLEN', all)
if not before and entries >= tonumber(ARGV[3]) then return {'many', int(entries)} end
local bytes = num(redis.call('GET', sum)) + #stored - (before and #before or 0)
if bytes > tonumber(ARGV[4]) then return {'large', int(bytes)} end

redis.call('HSET', all, field, stored)
redis.call('SET', sum, int(bytes))
if before then
  redis.call('LPUSH', old, before)
  redis.call('LTRIM', old, 0, tonumber(ARGV[5]) - 1)
  local kept = 0
  for i, one in ipairs(redis.call('LRANGE', old, 0, -1)) do
    kept = kept + #one
    if kept > tonumber(ARGV[6]) then
      redis.call('LTRIM', old, 0, i - 2)
      break
    end
  end
end
return {'set', int(now)}
