-- Writes the records of a node's sessions, unless another node has them by now.
-- KEYS: the records. ARGV: the node, and then for each key: what to do, how long it is kept in ms, its state, the record.
-- Answers for each: 0 if another node has it, 1 if it is done, 2 if there is nothing to renew.
local answers = {}
for index, key in ipairs(KEYS) do
  local at = 2 + (index - 1) * 4
  local deed, kept, state, record = ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3]
  local owner = redis.call('HGET', key, 'owner')
  local answer = 1
  if owner and owner ~= ARGV[1] then
    answer = 0
  elseif deed == 'write' then
    redis.call('HSET', key, 'owner', ARGV[1], 'state', state, 'record', record)
    redis.call('PEXPIRE', key, kept)
  elseif deed == 'forget' then
    redis.call('UNLINK', key)
  elseif redis.call('PEXPIRE', key, kept) == 0 then
    answer = 2
  end
  answers[index] = answer
end
return answers
