-- note_branch <text> <task>...: what became of a task's branch, in the record of each task that is still there

local noted = 0
for i = 2, #ARGV do
  if redis.call('EXISTS', task_key(ARGV[i])) == 1 then
    redis.call('HSET', task_key(ARGV[i]), 'branch_note', ARGV[1])
    noted = noted + 1
  end
end
return noted
