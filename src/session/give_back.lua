-- Gives a session back to the node it was taken from, unless somebody else has taken it since.
-- KEYS: the record. ARGV: the node, the former owner.
if redis.call('HGET', KEYS[1], 'owner') == ARGV[1] then
  redis.call('HSET', KEYS[1], 'owner', ARGV[2])
end
