-- Makes a session a node's own, if nobody is on it or its node is given up: of several that try, one succeeds.
-- KEYS: the record. ARGV: the node, another node that does not answer or has given it up.
-- Answers 1 if it is this node's by now, else 0, and then its node, its state and the record as they were.
local owner, state, record = unpack(redis.call('HMGET', KEYS[1], 'owner', 'state', 'record'))
if not owner then
  return false
end
local is_mine = owner == ARGV[1]
if not is_mine and (state == 'gone' or owner == ARGV[2]) then
  is_mine = true
  redis.call('HSET', KEYS[1], 'owner', ARGV[1])
  -- From now on it is to be had from this node only.
  if state == 'gone' then
    redis.call('HSET', KEYS[1], 'state', 'live')
  end
end
return {is_mine and 1 or 0, owner, state, record}
