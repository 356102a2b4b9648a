-- REFRESH: asks all nodes to load a key anew. The value stays until one has, and so does a lease: whoever holds it will bring a
-- value of a smaller number, which counts as not loaded anew.
-- KEYS counter, log, channel; ARGV origin, key
local counter = read_counter()
local number = next_number(counter)
commit(counter, number, 'refresh', ARGV[2])
return number
