-- Gives jobs that the caller still holds back to the queue as if they had never been claimed.
--
-- KEYS  1 queue (sorted set)   2 the queue's counters (hash)
-- ARGV  1 wake channel   then for each job: id, fence, the time it was due in ms
-- Returns the ids that the caller no longer holds: nothing of theirs was changed.
-- Atomic: the lease ends, the try is given back and the old place in the queue returns together.
-- A script that has begun to write may go on when maxmemory is reached: what runs must be able to end.
redis.call('DEL', 'twolane:none')
return give_back('released', function(id, due)
  local tries = 'arq:retry:' .. id
  local left = redis.pcall('DECR', tries)  -- what is no number must not keep the others
  if type(left) ~= 'number' or left <= 0 then redis.call('DEL', tries) end
  return due
end)
