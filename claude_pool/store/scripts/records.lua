-- records [id]...: the record of each, or nothing where there is none.

local found = {}
for i, id in ipairs(ARGV) do
  local values = record(id)
  found[i] = values[1] and values or {}
end
return found
