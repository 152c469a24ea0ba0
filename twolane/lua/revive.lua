-- Puts dead letters back into their queues for a fresh set of tries.
--
-- KEYS  1 dead letters (sorted set)
-- ARGV  1 wake channel's prefix   then the ids
-- Returns the ids that could not be put back: no such dead letter, no payload kept, or a job of
-- that id waits or runs already.
-- Atomic: a job leaves the dead letters and enters its queue together.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local refused, woken = {}, {}
for i = 2, #ARGV do
  local id = ARGV[i]
  local letter = redis.call('HMGET', 'twolane:dead:' .. id, 'payload', 'queue', 'run')
  local payload, queue, run = letter[1], letter[2], letter[3]
  if not payload or payload == '' or redis.call('EXISTS', 'arq:job:' .. id) == 1 then
    refused[#refused + 1] = id
  else
    redis.call('SET', 'arq:job:' .. id, payload)
    redis.call('DEL', 'arq:retry:' .. id, 'arq:result:' .. id, 'twolane:dead:' .. id)
    redis.call('ZREM', KEYS[1], id)
    redis.call('ZADD', queue, now, id)
    redis.call('HINCRBY', 'twolane:counters:' .. queue, 'revived', 1)
    -- The run waits for this job again.
    if run and run ~= '' and redis.call('TYPE', 'twolane:run:' .. run).ok == 'hash' then
      redis.call('HINCRBY', 'twolane:run:' .. run, 'failed', -1)
    end
    woken[queue] = true
  end
end
for queue in pairs(woken) do redis.call('PUBLISH', ARGV[1] .. queue, 'work') end
return refused
