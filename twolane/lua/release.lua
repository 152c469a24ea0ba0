-- Gives jobs that the caller still holds back to the queue as if they had never been claimed.
--
-- KEYS  1 queue (sorted set)   2 the queue's counters (hash)
-- ARGV  1 wake channel   then for each job: id, fence, the time it was due in ms
-- Returns the ids that the caller no longer holds: nothing of theirs was changed.
-- Atomic: the lease ends, the try is given back and the old place in the queue returns together.
-- A script that has begun to write may go on when maxmemory is reached: what runs must be able to end.
redis.call('DEL', 'twolane:none')
local fenced, count = {}, 0
for i = 2, #ARGV, 3 do
  local id = ARGV[i]
  local held = 'arq:in-progress:' .. id
  if redis.call('GET', held) == ARGV[i + 1] then
    redis.call('DEL', held)
    if redis.call('DECR', 'arq:retry:' .. id) <= 0 then redis.call('DEL', 'arq:retry:' .. id) end
    redis.call('ZADD', KEYS[1], ARGV[i + 2], id)
    count = count + 1
  else
    fenced[#fenced + 1] = id
  end
end
if count > 0 then
  redis.call('HINCRBY', KEYS[2], 'released', count)
  redis.call('PUBLISH', ARGV[1], 'work')
end
if #fenced > 0 then redis.call('HINCRBY', KEYS[2], 'fenced', #fenced) end
return fenced
