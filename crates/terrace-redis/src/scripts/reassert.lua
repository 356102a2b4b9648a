-- REASSERT: invalidates once more what the server may have forgotten to be invalid. A value that is not older than the
-- change stays; the lease does not, nor does any node's copy. Begins by freeing memory, as INVALIDATE does.
-- KEYS counter, log, channel, value, lease; ARGV origin, key, the change's number or ''
redis.call('UNLINK', KEYS[5])
local version, changed = redis.call('GETRANGE', KEYS[4], 1, 8), tonumber(ARGV[3])
if #version < 8 or not changed or struct.unpack('>I8', version) < changed then
  redis.call('UNLINK', KEYS[4])
end
local counter = read_counter()
local number = next_number(counter)
commit(counter, number, 'invalidate', ARGV[2])
return number
