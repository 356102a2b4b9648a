-- Stands before every script that changes a partition.
--
-- A partition's counter is a hash: `seq`, the number of the last change; `top`, the last number given out, to a change
-- or to a lease; `first`, the one that the counter began with: values with smaller ones are dead, because nobody knows any
-- more what was swept; `barrier`, the number of the last sweep; `rules`, the sweeps whose victims may still be there;
-- `born`, the server's time when the hash was made, which every lease repeats, so that one of an earlier counter is void;
-- `inc`, the incarnation of the server that the partition was last greeted by (HELLO).
--
-- A change takes max(top + 1, time in microseconds), is written to the log under that number and published, so that
-- the chain of `previous` numbers has no gap. Numbers are formatted by hand: Lua's own form is 1.7e+15.
--
-- Numbers run ahead of the clock after HELLO, by about SKEW_MAX. So a counter that is made anew begins twice as far ahead:
-- above all numbers of the one that was lost, because entries that were not lost with it have those as versions. A log that
-- was not lost knows them better.
local COUNTER, LOG, CHANNEL, ORIGIN = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
-- How far the clocks of two servers are apart at most, in microseconds: 18 minutes.
local SKEW_MAX = 1073741824
-- How many changes of a partition a server has forgotten at most, while its numbers run ahead of the clock. Small, because a
-- counter that is lost so many microseconds after it was greeted begins below its numbers.
local FORGOTTEN_MAX = 16384

local function text(number)
  return string.format('%.0f', number)
end

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]

local function publish(previous, number, operation, argument)
  local message = '1 ' .. previous .. ' ' .. number .. ' ' .. ORIGIN .. ' ' .. operation .. ' ' .. argument
  local id = number .. '-0'
  local added = redis.pcall('XADD', LOG, 'MAXLEN', '~', '4096', id, 'm', message)
  if type(added) == 'table' then
    -- A log that runs ahead of its counter is of no use: start it anew, and let readers see the gap.
    redis.call('UNLINK', LOG)
    redis.call('XADD', LOG, id, 'm', message)
  end
  redis.call('PUBLISH', CHANNEL, message)
end

-- The counter, made ahead of the server's time if it is not there. Making it voids every lease, and begins a new log.
-- `seq` and `born` are texts, `top` and `barrier` are numbers.
local function read_counter()
  local fields = redis.call('HMGET', COUNTER, 'seq', 'top', 'born', 'barrier')
  if fields[1] and fields[2] and fields[3] then
    return { seq = fields[1], top = tonumber(fields[2]), born = fields[3], barrier = tonumber(fields[4] or 0) }
  end
  local born, first = text(now), now + 2 * SKEW_MAX
  local logged = redis.call('XREVRANGE', LOG, '+', '-', 'COUNT', 1)[1]
  if logged then
    first = math.max(first, tonumber(string.match(logged[1], '^%d+')) + FORGOTTEN_MAX)
  end
  local seq = text(first)
  redis.call('HSET', COUNTER, 'seq', seq, 'top', seq, 'first', seq, 'born', born)
  redis.call('HDEL', COUNTER, 'barrier', 'rules', 'inc')
  redis.call('UNLINK', LOG)
  publish('0', seq, 'floor', '')
  return { seq = seq, top = first, born = born, barrier = 0 }
end

local function next_number(counter)
  return math.max(counter.top + 1, now)
end

-- Makes `number` the number of the change that the script does. Returns its text.
local function commit(counter, number, operation, argument)
  local sequence = text(number)
  redis.call('HSET', COUNTER, 'seq', sequence, 'top', sequence)
  publish(counter.seq, sequence, operation, argument)
  counter.seq, counter.top = sequence, number
  return sequence
end

