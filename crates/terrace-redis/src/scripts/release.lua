-- RELEASE: ends a lease without a value, if it is still this one; without a token, whoever has it.
-- KEYS lease, channel; ARGV token or '', key
local held = redis.call('GET', KEYS[1])
if held then
  local token, _, _, _, awaited = parse_lease(held)
  if token == ARGV[1] or ARGV[1] == '' then
    redis.call('UNLINK', KEYS[1])
    if awaited then
      redis.call('PUBLISH', KEYS[2], 'ended ' .. ARGV[2])
    end
  end
end
return 0
