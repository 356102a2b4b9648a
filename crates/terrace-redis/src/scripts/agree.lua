-- AGREE: compares settings with those that are written down, and adds what is missing if none differs. Tells what is
-- written down of each.
-- KEYS the record; ARGV names and values in turns
local there, missing, differs = {}, {}, false
for i = 1, #ARGV, 2 do
  local value = redis.call('HGET', KEYS[1], ARGV[i])
  there[#there + 1] = value
  if not value then
    missing[#missing + 1] = ARGV[i]
    missing[#missing + 1] = ARGV[i + 1]
  elseif value ~= ARGV[i + 1] then
    differs = true
  end
end
if #missing > 0 and not differs then
  redis.call('HSET', KEYS[1], unpack(missing))
end
return there
