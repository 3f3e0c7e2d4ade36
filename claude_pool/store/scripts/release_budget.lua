-- release_budget <scope> <limit>: tasks parked for this scope's money that fit now -> pending. Their doorbells.

local bells = {}
for _, id in ipairs(fitting(ARGV[1], tonumber(ARGV[2]))) do
  local t = load_task(id)
  move(t, 'wake', 'pending', {}, 'budget')
  bells[#bells + 1] = bell(t)
end
return bells
