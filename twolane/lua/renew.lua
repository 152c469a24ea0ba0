-- Extends the leases that the caller still holds.
--
-- KEYS  1 queue (sorted set)
-- ARGV  1 lease, ms   then for each job: id, fence
-- Returns the ids that the caller no longer holds.
-- Atomic: the lease and the job's place in the queue move together. What is held has a place: one that
-- was deleted under a running job is made again, so that the job outlives its worker. A lease or a queue
-- of another type, which any client can make, keeps no other lease from being extended (pcall).
-- A script that has begun to write may go on when maxmemory is reached: what runs must be able to end.
redis.call('DEL', 'twolane:none')
local t = redis.call('TIME')
local lease_end = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[1]
local lost = {}
for i = 2, #ARGV, 2 do
  local id = ARGV[i]
  local key = 'arq:in-progress:' .. id
  if redis.pcall('GET', key) == ARGV[i + 1] then
    redis.call('PEXPIRE', key, ARGV[1])
    redis.pcall('ZADD', KEYS[1], lease_end, id)
  else
    lost[#lost + 1] = id
  end
end
return lost
