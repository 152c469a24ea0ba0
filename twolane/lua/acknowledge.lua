-- Records the final outcome of jobs that the caller still holds.
--
-- KEYS  1 queue (sorted set)   2 the queue's counters (hash)   3 arq's aborts   4 dead letters (sorted set)
-- ARGV  1 a run's time to live, s
--       then for each job: id, fence, result, how long to keep it in ms ('0' not at all, '-1' for
--       good), run ('' for none), entry for the run's stream ('' for the result itself), kind
--       ('done', 'failed' or 'cancelled'; a failed one becomes a dead letter), function's name
-- Returns the ids that the caller no longer holds: nothing of theirs was changed.
-- Atomic: the result, the stream's entry, the counters and the removal from the queue happen
-- together, so a result is recorded exactly once.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local fenced, totals, runs, gone = {}, {}, {}, {}
for i = 2, #ARGV, 8 do
  local id, fence, result, keep, run = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3], ARGV[i + 4]
  local entry, kind = ARGV[i + 5], ARGV[i + 6]
  local held = 'arq:in-progress:' .. id
  if redis.call('GET', held) ~= fence then
    fenced[#fenced + 1] = id
  else
    if keep == '-1' then
      redis.call('SET', 'arq:result:' .. id, result)
    elseif keep ~= '0' then
      redis.call('SET', 'arq:result:' .. id, result, 'PX', keep)
    end
    if kind == 'failed' then
      local payload = redis.call('GET', 'arq:job:' .. id) or ''
      redis.call('HSET', 'twolane:dead:' .. id, 'payload', payload, 'result', result, 'queue', KEYS[1],
        'function', ARGV[i + 7], 'run', run, 'died', now)
      redis.call('ZADD', KEYS[4], now, id)
    end
    redis.call('DEL', held, 'arq:retry:' .. id, 'arq:job:' .. id)
    gone[#gone + 1] = id
    totals[kind] = (totals[kind] or 0) + 1
    if run ~= '' then
      local seen = runs[run]
      if seen == nil then
        seen = redis.call('EXISTS', 'twolane:run:' .. run) == 1 and {} or false
        runs[run] = seen
      end
      if seen then
        redis.call('XADD', 'twolane:run:' .. run .. ':outcomes', '*', 'o', entry == '' and result or entry)
        seen[kind] = (seen[kind] or 0) + 1
      end
    end
  end
end
if #gone > 0 then
  redis.call('ZREM', KEYS[1], unpack(gone))
  if redis.call('EXISTS', KEYS[3]) == 1 then redis.call('ZREM', KEYS[3], unpack(gone)) end
end
for kind, count in pairs(totals) do redis.call('HINCRBY', KEYS[2], kind, count) end
if #fenced > 0 then redis.call('HINCRBY', KEYS[2], 'fenced', #fenced) end
for run, seen in pairs(runs) do
  if seen then
    for kind, count in pairs(seen) do redis.call('HINCRBY', 'twolane:run:' .. run, kind, count) end
    redis.call('EXPIRE', 'twolane:run:' .. run, ARGV[1])
    redis.call('EXPIRE', 'twolane:run:' .. run .. ':outcomes', ARGV[1])
  end
end
return fenced
