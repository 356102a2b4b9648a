-- COMPARE: what SET or INVALIDATE does, if what is there is as the caller expects, and else nothing. Whether a sweep by pattern has
-- killed what is there, the caller judges: a sweep that he has not seen yet is told first, and he comes again.
-- KEYS counter, log, channel, value, lease; ARGV origin, key, the version that is expected or '', the version of a dead value or '',
-- the number up to which sweeps were judged, milliseconds or '' or 'none' to remove, the bytes before the version, those after, the
-- server's time from which on it is too late
local VALUE, LEASE = KEYS[4], KEYS[5]
local KEY, EXPECTED, DEAD, JUDGED = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local TTL, HEAD, REST, DEADLINE = ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9])

if now >= DEADLINE then
  return redis.error_reply('LATE by ' .. text(now - DEADLINE) .. ' us')
end
local there = ''
local found = redis.call('GETRANGE', VALUE, 0, 8)
if found ~= '' then
  there = #found == 9 and string.sub(found, 2) or string.rep('\0', 8)
  local version = struct.unpack('>I8', there)
  local fields = redis.call('HMGET', COUNTER, 'first', 'rules')
  if there == DEAD or version > 0 and (not fields[1] or version < tonumber(fields[1])) then
    there = ''
  else
    local unseen = false
    each_rule(fields[2], function(number)
      unseen = unseen or version < tonumber(number) and JUDGED < tonumber(number)
    end)
    if unseen then
      return { 'swept', there, fields }
    end
  end
end
if there ~= EXPECTED then
  return { 'differs', there }
end

if TTL == 'none' then
  redis.call('UNLINK', VALUE, LEASE)
  local counter = read_counter()
  local number = next_number(counter)
  commit(counter, number, 'invalidate', KEY)
  return { 'changed', number }
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
return { 'changed', number }
