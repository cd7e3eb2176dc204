#!lua flags=allow-oom
-- A node ends in good order. KEYS and the first two of ARGV are those of beat.lua.
local known = redis.call('HGET', KEYS[2], ARGV[1])
if not known or cjson.decode(known).incarnation ~= ARGV[2] then return 0 end
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
if redis.call('GET', KEYS[4]) == ARGV[1] then redis.call('DEL', KEYS[4]) end
return redis.call('DEL', KEYS[6])
