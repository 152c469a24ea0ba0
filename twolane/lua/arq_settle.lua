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
-- A script that has begun to write may go on when maxmemory is reached: what runs must be able to end.
redis.call('DEL', 'twolane:none')
redis.call('ZCARD', KEYS[1])  -- a queue of another type is an error before anything is changed
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local held, fenced, gone, ended, obsolete, results, back = {}, {}, {}, {}, {}, {}, false
for i = 2, #ARGV, 6 do held[#held + 1] = 'arq:in-progress:' .. ARGV[i] end
local fences = redis.call('MGET', unpack(held))
for i = 2, #ARGV, 6 do
  local id, verb, first, second, hold = ARGV[i], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4], ARGV[i + 5]
  local job, tries = (i + 4) / 6, 'arq:retry:' .. id
  if fences[job] ~= ARGV[i + 1] or ended[id] then
    fenced[#fenced + 1] = id
  else
    ended[id] = true
    if verb == 'finish' then
      if first ~= '' then
        local kept = results[second] or {}
        results[second] = kept
        kept[#kept + 1] = 'arq:result:' .. id
        kept[#kept + 1] = first
      end
      obsolete[#obsolete + 1] = tries
      obsolete[#obsolete + 1] = 'arq:job:' .. id
      gone[#gone + 1] = id
    else
      local due = tonumber(second)
      if string.sub(second, 1, 1) == '+' then due = now + tonumber(string.sub(second, 2)) end
      if verb == 'retry' then
        redis.call('SETEX', tries, 88400, first)
      else
        local left = redis.pcall('DECR', tries)  -- what is no number must not keep the others
        if type(left) ~= 'number' or left <= 0 then redis.call('DEL', tries) end
      end
      redis.call('ZADD', KEYS[1], due, id)
      back = true
    end
    if hold == '0' then
      obsolete[#obsolete + 1] = held[job]
    else
      -- arq's own value, so that nobody takes it for this attempt's any more.
      redis.call('SET', held[job], '1', 'PX', hold)
    end
  end
end
for keep, kept in pairs(results) do set_many(kept, keep ~= '-1' and keep or nil) end
if #obsolete > 0 then redis.call('DEL', unpack(obsolete)) end
if #gone > 0 then
  redis.call('ZREM', KEYS[1], unpack(gone))
  redis.pcall('ZREM', KEYS[2], unpack(gone))  -- any client can make it a key of another type
end
if back then redis.call('PUBLISH', ARGV[1], 'work') end
return fenced
