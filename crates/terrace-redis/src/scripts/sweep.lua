-- SWEEP: writes a rule down that kills what is older and named by it, and voids every lease of the partition. Refuses before it
-- has written anything; then begins by freeing memory, as INVALIDATE does.
-- KEYS counter, log, channel; ARGV origin, pattern or '', the sweep's id, most rules
local PATTERN, ID, RULES_MAX = ARGV[2], ARGV[3], tonumber(ARGV[4])
local kept = {}
each_rule(redis.call('HGET', COUNTER, 'rules'), function(number, id, pattern)
  if PATTERN ~= '' and pattern ~= PATTERN then
    kept[#kept + 1] = rule(number, id, pattern)
  end
end)
if #kept >= RULES_MAX then
  return redis.error_reply('DENIED ' .. RULES_MAX .. ' sweeps by pattern are active, and no more can be; tags have no such bound')
end
redis.call('HDEL', COUNTER, 'barrier')
local counter = read_counter()
local number = next_number(counter)
local sequence = commit(counter, number, 'sweep', PATTERN)
kept[#kept + 1] = rule(sequence, ID, PATTERN)
redis.call('HSET', COUNTER, 'barrier', sequence, 'rules', table.concat(kept))
return number
