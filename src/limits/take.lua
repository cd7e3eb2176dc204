-- Takes tokens out of a bucket that holds as many as come back in a second.
-- KEYS: the bucket. ARGV: tokens a second, how many are wanted. Answers how many there are of them.
-- The bucket is the time in microseconds at which it is full again.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or 0), now)
local interval = 1000000 / ARGV[1]
local left = math.floor((1000000 - (full_at - now)) / interval + 0.001)
local granted = math.max(math.min(left, tonumber(ARGV[2])), 0)
if granted > 0 then
  redis.call('SET', KEYS[1], string.format('%.0f', full_at + granted * interval), 'PX', 2000)
end
return granted
