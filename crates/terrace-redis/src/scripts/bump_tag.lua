-- BUMP: gives a tag a new generation. A table that would grow beyond its bound is dropped for a new floor, which is
-- newer than every generation in it. Begins by freeing memory, as INVALIDATE does.
-- KEYS counter, log, channel, generations; ARGV origin, tag, most tags in the table
local GENERATIONS, TAG, TAGS_MAX = KEYS[4], ARGV[2], tonumber(ARGV[3])
local field = 't:' .. TAG

redis.call('HDEL', GENERATIONS, field)
local counter = read_counter()
if redis.call('HEXISTS', GENERATIONS, 'floor') == 0 or redis.call('HLEN', GENERATIONS) > TAGS_MAX then
  redis.call('UNLINK', GENERATIONS)
  local floor = next_number(counter)
  redis.call('HSET', GENERATIONS, 'floor', commit(counter, floor, 'floor', '') .. ':' .. text(now))
end
local number = next_number(counter)
redis.call('HSET', GENERATIONS, field, commit(counter, number, 'tag', TAG) .. ':' .. text(now))
return number
