-- HELLO: the server has another incarnation than the one that the partition was last greeted by, and may have forgotten
-- changes. Raises the counter above all numbers that may have been given out, voids every lease. Does nothing where the
-- incarnation is known, or where there is no counter: one that is made later begins high enough.
-- KEYS counter, log, channel; ARGV origin, incarnation
local known = redis.call('HMGET', COUNTER, 'inc', 'seq')
if not known[2] then
  return 0
end
if known[1] == ARGV[2] then
  return tonumber(known[2])
end
-- Begins by freeing memory, as INVALIDATE does.
redis.call('HDEL', COUNTER, 'inc')
local counter = read_counter()
local number = math.max(counter.top + FORGOTTEN_MAX, now + SKEW_MAX)
redis.call('HSET', COUNTER, 'inc', ARGV[2], 'barrier', commit(counter, number, 'hello', ''))
return number
