-- FILL: stores what was loaded under a lease that still holds. Changes no logical state: it has no number and is not logged. That
-- the load has ended is published if somebody waits for it.
-- KEYS counter, value, lease, channel; ARGV token, milliseconds or '' or '0', the bytes before the version, those after, key
local COUNTER, VALUE, LEASE = KEYS[1], KEYS[2], KEYS[3]
local TOKEN, TTL, HEAD, REST = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local held = redis.call('GET', LEASE)
if not held then
  return 0
end
local token, version, _, born, awaited = parse_lease(held)
if token ~= TOKEN then
  return 0
end
local fields = redis.call('HMGET', COUNTER, 'born', 'barrier')
local honoured = fields[1] == born and version > tonumber(fields[2] or 0)
if honoured and TTL ~= '0' then
  local bytes = HEAD .. struct.pack('>I8', version) .. REST
  if TTL == '' then
    redis.call('SET', VALUE, bytes)
  else
    redis.call('SET', VALUE, bytes, 'PX', TTL)
  end
end
redis.call('UNLINK', LEASE)
if awaited then
  redis.call('PUBLISH', KEYS[4], 'ended ' .. ARGV[5])
end
return honoured and 1 or 0
