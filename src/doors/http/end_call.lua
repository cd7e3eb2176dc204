-- Remembers the answer to a call, or forgets a call that has failed, if it still is this node's.
-- KEYS: the call. ARGV: the node, the answer or nothing, how long it is remembered in ms.
if redis.call('HGET', KEYS[1], 'owner') ~= ARGV[1] then
  return
end
if ARGV[2] == '' then
  redis.call('UNLINK', KEYS[1])
else
  redis.call('HSET', KEYS[1], 'answer', ARGV[2])
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
