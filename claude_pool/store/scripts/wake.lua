-- wake <id>: parked -> pending. Answers the doorbell, or nothing.

local t = load_task(ARGV[1])
if not t or t.state ~= 'parked' then return {} end
move(t, 'wake', 'pending', {}, 'asked')
return {bell(t)}
