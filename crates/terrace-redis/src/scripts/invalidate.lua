-- INVALIDATE: removes a value, voids the lease. Removal comes first: a script that has begun with a command that frees
-- memory may go on where the server has none left, so an invalidation is never refused for want of memory.
-- KEYS counter, log, channel, value, lease; ARGV origin, key
local existed = redis.call('UNLINK', KEYS[4])
redis.call('UNLINK', KEYS[5])
local counter = read_counter()
local number = next_number(counter)
commit(counter, number, 'invalidate', ARGV[2])
return { number, existed }
