-- RELEASE: ends a lease without a value, if it is still this one.
-- KEYS lease; ARGV token
local held = redis.call('GET', KEYS[1])
if held and parse_lease(held) == ARGV[1] then
  redis.call('UNLINK', KEYS[1])
end
return 0
