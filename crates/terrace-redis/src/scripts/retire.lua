-- RETIRE: forgets a rule. All that it killed was removed.
-- KEYS counter; ARGV the sweep's id
local rules, kept = redis.call('HGET', KEYS[1], 'rules'), {}
each_rule(rules, function(number, id, pattern)
  if id ~= ARGV[1] then
    kept[#kept + 1] = rule(number, id, pattern)
  end
end)
if #kept > 0 then
  redis.call('HSET', KEYS[1], 'rules', table.concat(kept))
elseif rules then
  redis.call('HDEL', KEYS[1], 'rules')
end
return 0
