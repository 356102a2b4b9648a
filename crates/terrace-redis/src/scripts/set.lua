-- SET: stores a value, voids the lease. The value comes first: where the server refuses to write for want of memory,
-- it must refuse before anything is done. One that comes when its caller has given it up does nothing: behind a change that was
-- acknowledged meanwhile, it would put the older value back.
-- KEYS counter, log, channel, value, lease; ARGV origin, key, milliseconds or '', the bytes before the version, those after,
-- the server's time from which on it is too late
local VALUE, LEASE = KEYS[4], KEYS[5]
local KEY, TTL, HEAD, REST, DEADLINE = ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])

if now >= DEADLINE then
  return redis.error_reply('LATE by ' .. text(now - DEADLINE) .. ' us')
end
local counter = read_counter()
local number = next_number(counter)
local bytes = HEAD .. struct.pack('>I8', number) .. REST
if TTL == '' then
  redis.call('SET', VALUE, bytes)
else
  redis.call('SET', VALUE, bytes, 'PX', TTL)
end
redis.call('UNLINK', LEASE)
commit(counter, number, 'set', KEY)
return number
