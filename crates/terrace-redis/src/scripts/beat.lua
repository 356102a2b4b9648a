-- BEAT: tells a node that it hears what is published. Begins by freeing memory, as INVALIDATE does. The key is there for
-- the sake of writing it, and shows who was alive lately.
-- KEYS the beat, which is the channel's name too; ARGV number, milliseconds
redis.call('UNLINK', KEYS[1])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('PUBLISH', KEYS[1], ARGV[1])
return 0
