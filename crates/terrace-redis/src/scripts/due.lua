-- DUE: takes some of the invalidations that are due, by making them due again later; or tells in how many microseconds the
-- next one is due, if there is one.
-- KEYS delayed; ARGV microseconds until they are due again, most that are taken
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local taken = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[2])
local again = string.format('%.0f', now + ARGV[1])
for _, invalidation in ipairs(taken) do
  redis.call('ZADD', KEYS[1], again, invalidation)
end
local next = {}
if #taken == 0 then
  local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
  if first[2] then
    next[1] = math.max(0, first[2] - now)
  end
end
return { taken, next }
