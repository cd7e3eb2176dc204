-- Makes a session a node's own, and tells whose it was: of several that try, one finds it with its former owner.
-- KEYS: the record. ARGV: the node.
local found = redis.call('HMGET', KEYS[1], 'owner', 'state', 'record')
if not found[1] then
  return false
end
redis.call('HSET', KEYS[1], 'owner', ARGV[1])
return found
