-- RENEW: makes a lease last longer, if it is still this one.
-- KEYS lease; ARGV token, milliseconds
local held = redis.call('GET', KEYS[1])
if held and parse_lease(held) == ARGV[1] then
  return redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return 0
