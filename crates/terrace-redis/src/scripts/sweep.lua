-- SWEEP: voids every lease of the partition. Begins by freeing memory, as INVALIDATE does.
-- KEYS counter, log, channel; ARGV origin, pattern or ''
redis.call('HDEL', COUNTER, 'barrier')
local counter = read_counter()
local number = next_number(counter)
redis.call('HSET', COUNTER, 'barrier', commit(counter, number, 'sweep', ARGV[2]))
return number
