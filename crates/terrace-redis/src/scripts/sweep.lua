-- SWEEP: voids every lease of the partition. Begins by freeing memory, as INVALIDATE does.
-- KEYS counter, log, channel; ARGV origin, pattern or ''
redis.call('HDEL', COUNTER, 'barrier')
local counter = read_counter()
local number = next_number(counter)
commit(counter, number, 'sweep', ARGV[2])
redis.call('HSET', COUNTER, 'barrier', text(number))
return number
