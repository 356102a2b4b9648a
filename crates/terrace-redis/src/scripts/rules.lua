-- Stands before the scripts that know the rules of sweeps: the field `rules` of a counter, which is for each of them the text
-- number:id:length:pattern. The pattern of a sweep of all is empty.
local function each_rule(rules, visit)
  local at = 1
  while rules and at <= #rules do
    local _, last, number, id, length = string.find(rules, '^(%d+):(%x+):(%d+):', at)
    if not last then
      return
    end
    visit(number, id, string.sub(rules, last + 1, last + length))
    at = last + length + 1
  end
end

local function rule(number, id, pattern)
  return number .. ':' .. id .. ':' .. #pattern .. ':' .. pattern
end

