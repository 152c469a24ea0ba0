-- Cancels jobs: one that waits is settled here, one that runs is put to its worker.
--
-- KEYS  1 queue (sorted set)   2 the queue's counters (hash)   3 arq's aborts (sorted set)
-- ARGV  1 a run's time to live, s   2 wake channel
--       then for each job: id, result (a cancellation), how long to keep it in ms, run ('' for none)
-- Returns {how many were settled, how many were put to their workers}; a job that is neither
-- waiting nor running is passed over.
-- Atomic: a job cannot start between the look and the removal.
-- A script that has begun to write may go on when maxmemory is reached: what runs must be able to end.
redis.call('DEL', 'twolane:none')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local settled, asked = 0, 0
for i = 3, #ARGV, 4 do
  local id, run = ARGV[i], ARGV[i + 3]
  if redis.call('ZSCORE', KEYS[1], id) then
    if redis.call('EXISTS', 'arq:in-progress:' .. id) == 1 then
      redis.call('ZADD', KEYS[3], now, id)
      asked = asked + 1
    else
      redis.call('SET', 'arq:result:' .. id, ARGV[i + 1], 'PX', ARGV[i + 2])
      redis.call('DEL', 'arq:retry:' .. id, 'arq:job:' .. id)
      redis.call('ZREM', KEYS[1], id)
      redis.pcall('ZREM', KEYS[3], id)  -- any client can make it a key of another type
      settled = settled + 1
      if run ~= '' and redis.call('TYPE', 'twolane:run:' .. run).ok == 'hash' then
        redis.call('XADD', 'twolane:run:' .. run .. ':outcomes', '*', '0', ARGV[i + 1])
        redis.call('HINCRBY', 'twolane:run:' .. run, 'cancelled', 1)
        redis.call('EXPIRE', 'twolane:run:' .. run, ARGV[1])
        redis.call('EXPIRE', 'twolane:run:' .. run .. ':outcomes', ARGV[1])
      end
    end
  end
end
if settled > 0 then redis.pcall('HINCRBY', KEYS[2], 'cancelled', settled) end
if asked > 0 then redis.call('PUBLISH', ARGV[2], 'abort') end
return {settled, asked}
