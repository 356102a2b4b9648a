-- SET: stores a value, voids the lease. The value comes first: where the server refuses to write for want of memory,
-- it must refuse before anything is done.
-- KEYS counter, log, channel, value, lease; ARGV origin, key, milliseconds or '', the bytes before the version, those after
local VALUE, LEASE = KEYS[4], KEYS[5]
local KEY, TTL, HEAD, REST = ARGV[2], ARGV[3], ARGV[4], ARGV[5]

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
