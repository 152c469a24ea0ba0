-- Ends attempts at jobs of an arq application that the caller still holds, as arq would have.
--
-- KEYS  1 queue (sorted set)   2 arq's aborts (sorted set)
-- ARGV  1 wake channel
--       then for each job: id, fence, verb, and three values that depend on it:
--       'finish'   result ('' for none), how long to keep it in ms ('-1' for good), hold
--       'retry'    how often it was tried, when it is due next, hold
--       'release'  '', when it is due next, hold; the try is given back
--       Due is a time in ms, or '+' and a delay in ms. Hold is how long the job's in-progress key
--       stays, in ms, '0' not at all: so arq keeps cron jobs from running twice.
-- Returns the ids that the caller no longer holds: nothing of theirs was changed.
-- Atomic: the lease ends and the job's result or its new place in the queue appear together. No
-- key but arq's own is written.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local fenced, gone, back = {}, {}, false
for i = 2, #ARGV, 6 do
  local id, verb, first, second, hold = ARGV[i], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
  local held, tries = 'arq:in-progress:' .. id, 'arq:retry:' .. id
  if redis.call('GET', held) ~= ARGV[i + 1] then
    fenced[#fenced + 1] = id
  else
    if verb == 'finish' then
      if first ~= '' then
        if second == '-1' then
          redis.call('SET', 'arq:result:' .. id, first)
        else
          redis.call('SET', 'arq:result:' .. id, first, 'PX', second)
        end
      end
      redis.call('DEL', tries, 'arq:job:' .. id)
      gone[#gone + 1] = id
    else
      local due = tonumber(second)
      if string.sub(second, 1, 1) == '+' then due = now + tonumber(string.sub(second, 2)) end
      if verb == 'retry' then
        redis.call('SETEX', tries, 88400, first)
      elseif redis.call('DECR', tries) <= 0 then
        redis.call('DEL', tries)
      end
      redis.call('ZADD', KEYS[1], due, id)
      back = true
    end
    if hold == '0' then
      redis.call('DEL', held)
    else
      -- arq's own value, so that nobody takes it for this attempt's any more.
      redis.call('SET', held, '1', 'PX', hold)
    end
  end
end
if #gone > 0 then
  redis.call('ZREM', KEYS[1], unpack(gone))
  redis.call('ZREM', KEYS[2], unpack(gone))
end
if back then redis.call('PUBLISH', ARGV[1], 'work') end
return fenced
