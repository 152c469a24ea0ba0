-- Gives jobs that the caller still holds back to the queue for another try, later.
--
-- KEYS  1 queue (sorted set)   2 the queue's counters (hash)   3 arq's aborts (sorted set)
-- ARGV  1 wake channel   then for each job: id, fence, delay in ms
-- Returns the ids that the caller no longer holds: nothing of theirs was changed.
-- Atomic: the lease ends and the job's place in the queue moves together. A job whose abort was
-- asked for meanwhile comes back at once, to be settled as cancelled.
-- A script that has begun to write may go on when maxmemory is reached: what runs must be able to end.
redis.call('DEL', 'twolane:none')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
return give_back('retried', function(id, delay)
  -- Of another type it answers with an error, a table.
  if type(redis.pcall('ZSCORE', KEYS[3], id)) == 'string' then return now end
  return now + delay
end)
