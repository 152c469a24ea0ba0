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
local fenced, count = {}, 0
for i = 2, #ARGV, 3 do
  local id = ARGV[i]
  local held = 'arq:in-progress:' .. id
  if redis.call('GET', held) == ARGV[i + 1] then
    local due = now + ARGV[i + 2]
    if redis.call('ZSCORE', KEYS[3], id) then due = now end
    redis.call('DEL', held)
    redis.call('ZADD', KEYS[1], due, id)
    count = count + 1
  else
    fenced[#fenced + 1] = id
  end
end
if count > 0 then
  redis.call('HINCRBY', KEYS[2], 'retried', count)
  redis.call('PUBLISH', ARGV[1], 'work')
end
if #fenced > 0 then redis.call('HINCRBY', KEYS[2], 'fenced', #fenced) end
return fenced
