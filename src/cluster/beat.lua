#!lua flags=allow-oom
-- A sign of life of one node. Everything is judged by the clock of Redis and within one script, so that there are
-- never two nodes of one name, two with one number, or two that lead. A full Redis takes it, so that nodes live on.
-- KEYS: nodes (a zset: name -> when it counts as gone), infos (a hash: name -> JSON), numbers (a hash: name -> number),
--   leader (a name, as long as its lease runs), began (when these keys came to be).
-- ARGV: name, incarnation, info, milliseconds until it counts as gone, the number it would like, how many numbers there
--   are, 1 if it is draining, 1 if it leads as far as it knows, 1 if its last answer came in time.
-- Answers: now, 1 if it is alive or 0 if another process has its name, its number (-1 if all are taken) or when that
--   other one counts as gone, the leader, the infos of the living, for how long these keys have been there.
local nodes, infos, numbers, leader, began = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local name, incarnation, info = ARGV[1], ARGV[2], ARGV[3]
local lease, wish, count = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local is_draining, leads, is_timely = ARGV[7] == '1', ARGV[8] == '1', ARGV[9] == '1'
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

for _, gone in ipairs(redis.call('ZRANGEBYSCORE', nodes, '-inf', now)) do
  redis.call('ZREM', nodes, gone)
  redis.call('HDEL', infos, gone)
  redis.call('HDEL', numbers, gone)
  if redis.call('GET', leader) == gone then redis.call('DEL', leader) end
end

local known = redis.call('HGET', infos, name)
if known and cjson.decode(known).incarnation ~= incarnation then
  return {now, 0, tonumber(redis.call('ZSCORE', nodes, name)), '', redis.call('HVALS', infos), 0}
end
redis.call('ZADD', nodes, now + lease, name)
redis.call('HSET', infos, name, info)

local number = tonumber(redis.call('HGET', numbers, name))
if not number then
  local taken = {}
  for _, other in ipairs(redis.call('HVALS', numbers)) do taken[tonumber(other)] = true end
  number = -1
  for step = 0, count - 1 do
    local candidate = (wish + step) % count
    if not taken[candidate] then
      number = candidate
      redis.call('HSET', numbers, name, number)
      break
    end
  end
end

-- Where Redis has just lost everything somebody may still lead, until its lease is over.
redis.call('SET', began, now, 'NX')
local age = now - tonumber(redis.call('GET', began))
local is_settled = age >= lease
local may_lead = not is_draining or redis.call('ZCARD', nodes) == 1
local leading = redis.call('GET', leader)
if leading == name and not may_lead then
  redis.call('DEL', leader)
  leading = false
elseif leading == name and leads then
  redis.call('PEXPIRE', leader, lease)
elseif leading == name then
  -- It has stepped down, perhaps since answers come too late: when its lease is over somebody else may lead.
  leading = false
elseif not leading and may_lead and is_timely and (leads or is_settled) then
  redis.call('SET', leader, name, 'PX', lease)
  leading = name
end
return {now, 1, number, leading or '', redis.call('HVALS', infos), age}
