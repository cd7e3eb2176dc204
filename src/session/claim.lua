#!lua flags=allow-oom
-- Makes a session a node's own, if nobody is on it or its node is given up: of several that try, one succeeds. A full
-- Redis takes it, so that clients come back.
-- KEYS: the record. ARGV: the node, and if it was given up: the node that had it, how often it had been claimed then.
-- Answers 1 if it is this node's by now, else 0, and then its node, its state, the record, and how often it had been
-- claimed, as they were.
local owner, state, record, claims = unpack(redis.call('HMGET', KEYS[1], 'owner', 'state', 'record', 'claims'))
if not owner then
  return false
end
claims = tonumber(claims or 0)
local is_given_up = owner == ARGV[2] and claims == tonumber(ARGV[3])
local is_mine = owner == ARGV[1] or state == 'gone' or is_given_up
if is_mine then
  redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'claims', claims + 1)
  -- From now on it is to be had from this node only.
  if state == 'gone' then
    redis.call('HSET', KEYS[1], 'state', 'live')
  end
end
return {is_mine and 1 or 0, owner, state, record, claims}
