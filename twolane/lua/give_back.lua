-- Not a script of its own: put before those that give jobs back to their queue.
--
-- give_back(counter, due_of): ends the leases of the jobs that the caller still holds and puts each
-- into the queue, due when due_of(id, value) says. Counts them, wakes the workers, and returns the ids
-- that the caller no longer holds: nothing of theirs was changed. A lease or counters of another type,
-- which any client can make, are passed over (pcall).
--
-- KEYS  1 queue (sorted set)   2 the queue's counters (hash)
-- ARGV  1 wake channel   then for each job: id, fence, value
local function give_back(counter, due_of)
  redis.call('ZCARD', KEYS[1])  -- a queue of another type is an error before anything is changed
  local fenced, count = {}, 0
  for i = 2, #ARGV, 3 do
    local id = ARGV[i]
    local held = 'arq:in-progress:' .. id
    if redis.pcall('GET', held) == ARGV[i + 1] then
      redis.call('DEL', held)
      redis.call('ZADD', KEYS[1], due_of(id, ARGV[i + 2]), id)
      count = count + 1
    else
      fenced[#fenced + 1] = id
    end
  end
  if count > 0 then
    redis.pcall('HINCRBY', KEYS[2], counter, count)
    redis.call('PUBLISH', ARGV[1], 'work')
  end
  if #fenced > 0 then redis.pcall('HINCRBY', KEYS[2], 'fenced', #fenced) end
  return fenced
end
