-- Puts jobs into a queue; a job whose id is already known is left as it is.
--
-- KEYS  1 queue (sorted set)   2 the queue's counters (hash)   3 the run (hash), or the queue again
-- ARGV  1 run name, '' for none   2 the run's time to live, s   3 wake channel
--       then for each job: id, payload, delay in ms, time to live of the payload in ms ('0': none)
-- Returns the ids that were refused: waiting, running or with a result kept already.
-- Atomic: a payload and its place in the queue appear together; the run's total counts what was
-- accepted, so sending the same call again after a lost reply changes nothing.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local refused, places, accepted = {}, {}, 0
for i = 4, #ARGV, 4 do
  local id = ARGV[i]
  if redis.call('EXISTS', 'arq:job:' .. id, 'arq:result:' .. id) > 0 then
    refused[#refused + 1] = id
  else
    if ARGV[i + 3] == '0' then
      redis.call('SET', 'arq:job:' .. id, ARGV[i + 1])
    else
      redis.call('SET', 'arq:job:' .. id, ARGV[i + 1], 'PX', ARGV[i + 3])
    end
    places[#places + 1] = now + ARGV[i + 2]
    places[#places + 1] = id
    accepted = accepted + 1
  end
end
if accepted > 0 then
  redis.call('ZADD', KEYS[1], unpack(places))
  redis.call('HINCRBY', KEYS[2], 'enqueued', accepted)
  if ARGV[1] ~= '' then
    redis.call('HINCRBY', KEYS[3], 'total', accepted)
    redis.call('EXPIRE', KEYS[3], ARGV[2])
  end
  redis.call('PUBLISH', ARGV[3], 'work')
end
return refused
