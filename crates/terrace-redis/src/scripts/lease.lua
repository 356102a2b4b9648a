-- LEASE: the value if there is one, with what tells whether a sweep has killed it; else the right to load it, unless somebody
-- has that. Then the lease is marked, so that its end is published; where the server has no memory for that, those who wait
-- look for it now and then.
-- KEYS counter, log, channel, value, lease; ARGV origin, token, milliseconds, the version of a dead value or ''
local VALUE, LEASE = KEYS[4], KEYS[5]
local TOKEN, DURATION, DEAD = ARGV[2], ARGV[3], ARGV[4]

local value = redis.call('GET', VALUE)
if value then
  local version = string.sub(value, 2, 9)
  if #version < 8 then
    version = string.rep('\0', 8)
  end
  if version ~= DEAD then
    return { 'hit', value, redis.call('PTTL', VALUE), redis.call('HMGET', COUNTER, 'first', 'rules') }
  end
end

local counter = read_counter()
local held = redis.call('GET', LEASE)
if held then
  local token, version, granted_at, born, awaited = parse_lease(held)
  if token and born == counter.born and version > counter.barrier then
    if token == TOKEN then
      return { 'granted', version, granted_at }
    end
    local left = redis.call('PTTL', LEASE)
    if not awaited then
      redis.pcall('SET', LEASE, held .. ':w', 'KEEPTTL')
    end
    return { 'held', left }
  end
end

local version = next_number(counter)
redis.call('HSET', COUNTER, 'top', text(version))
redis.call('SET', LEASE, table.concat({ TOKEN, text(version), text(now), counter.born }, ':'), 'PX', DURATION)
return { 'granted', version, now }
