-- Makes a call that may be repeated a node's own, unless another node is at it or it has been answered.
-- KEYS: the call. ARGV: the node, hash of what is asked for, how long it is remembered in ms, a node that is dead.
-- Answers what is to be done, and the node that is at it, when that began in ms, or the answer.
local asked, answer, owner, began = unpack(redis.call('HMGET', KEYS[1], 'asked', 'answer', 'owner', 'began'))
if asked and asked ~= ARGV[2] then
  return {'reused'}
elseif answer then
  return {'answered', answer}
elseif owner and owner ~= ARGV[1] and owner ~= ARGV[4] then
  return {'wait', owner}
end
if not began then
  local time = redis.call('TIME')
  began = time[1] * 1000 + math.floor(time[2] / 1000)
end
redis.call('HSET', KEYS[1], 'asked', ARGV[2], 'owner', ARGV[1], 'began', began)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {owner and 'again' or 'first', tostring(began)}
