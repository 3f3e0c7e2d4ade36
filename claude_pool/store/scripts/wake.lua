-- wake <id>: parked -> pending. Answers the doorbell, or nothing. Who wakes a task that waits for its account says that
-- the account is worth a try: it goes first, as the probe.

local t = load_task(ARGV[1])
if not t or t.state ~= 'parked' then return {} end
if t.parked_for == 'breaker' then redis.call('HSET', breaker(t.account), 'until', int(now)) end
move(t, 'wake', 'pending', {}, 'asked')
return {bell(t)}
