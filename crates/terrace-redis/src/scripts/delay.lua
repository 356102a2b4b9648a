-- DELAY: notes invalidations that are due later, by the server's clock.
-- KEYS delayed; ARGV microseconds, most that may be noted, the invalidations
local clock = redis.call('TIME')
local due = string.format('%.0f', clock[1] * 1000000 + clock[2] + ARGV[1])
if redis.call('ZCARD', KEYS[1]) + #ARGV - 2 > tonumber(ARGV[2]) then
  return redis.error_reply('DENIED ' .. ARGV[2] .. ' delayed invalidations are noted, and no more can be')
end
for index = 3, #ARGV do
  redis.call('ZADD', KEYS[1], due, ARGV[index])
end
return 0
