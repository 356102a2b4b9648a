-- GENERATION: that of a tag, or the floor of the table. A table that is not there gets a floor that is newer than all
-- that was ever stored with a tag of it.
-- KEYS counter, log, channel, generations; ARGV origin, tag or ''
local GENERATIONS = KEYS[4]
local found = redis.call('HMGET', GENERATIONS, 'floor', 't:' .. ARGV[2])
if found[1] then
  return found[2] or found[1]
end
local counter = read_counter()
local number = next_number(counter)
local floor = text(number) .. ':' .. text(now)
redis.call('HSET', GENERATIONS, 'floor', floor)
commit(counter, number, 'floor', '')
return floor
