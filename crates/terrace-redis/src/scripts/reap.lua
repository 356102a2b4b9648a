-- REAP: removes a value if a sweep has killed it.
-- KEYS counter, value; ARGV the sweep's id
local found = redis.call('GETRANGE', KEYS[2], 1, 8)
local version = #found == 8 and struct.unpack('>I8', found) or 0
local removed = 0
each_rule(redis.call('HGET', KEYS[1], 'rules'), function(number, id)
  if id == ARGV[1] and version < tonumber(number) then
    removed = redis.call('UNLINK', KEYS[2])
  end
end)
return removed
