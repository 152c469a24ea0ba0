-- Records the final outcome of jobs that the caller still holds.
--
-- KEYS  1 queue (sorted set)   2 the queue's counters (hash)   3 arq's aborts   4 dead letters (sorted set)
-- ARGV  1 a run's time to live, s
--       then for each job: id, fence, result, how long to keep it in ms ('0' not at all, '-1' for
--       good), kind ('done', 'failed' or 'cancelled'; a failed one becomes a dead letter), function's
--       name, run ('' for none), entry for the run's stream ('' for the result itself)
-- Returns the ids that the caller no longer holds: nothing of theirs was changed.
-- Atomic: the result, the outcome on the stream, the counters and the removal from the queue happen
-- together, so a result is recorded exactly once. An entry of the stream has up to 32 outcomes.
-- A shared key of another type, which any client can make, is passed over (pcall): what does not fit into
-- it is missing there, and all the rest is recorded.
-- A script that has begun to write may go on when maxmemory is reached: what runs must be able to end.
redis.call('DEL', 'twolane:none')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local held, fenced, gone, ended, obsolete = {}, {}, {}, {}, {}
local results, totals, runs = {}, {}, {}
for i = 2, #ARGV, 8 do held[#held + 1] = 'arq:in-progress:' .. ARGV[i] end
local fences = redis.call('MGET', unpack(held))
for i = 2, #ARGV, 8 do
  local id, keep, kind, run = ARGV[i], ARGV[i + 3], ARGV[i + 4], ARGV[i + 6]
  local job = (i + 6) / 8
  if fences[job] ~= ARGV[i + 1] or ended[id] then
    fenced[#fenced + 1] = id
  else
    ended[id] = true
    if keep ~= '0' then
      local kept = results[keep]
      if kept == nil then
        kept = {}
        results[keep] = kept
      end
      kept[#kept + 1] = 'arq:result:' .. id
      kept[#kept + 1] = ARGV[i + 2]
    end
    if kind == 'failed' then
      local payload = redis.call('MGET', 'arq:job:' .. id)[1] or ''  -- a GET of another type would end the script
      redis.pcall('HSET', 'twolane:dead:' .. id, 'payload', payload, 'result', ARGV[i + 2], 'queue', KEYS[1],
        'function', ARGV[i + 5], 'run', run, 'died', now)
      redis.pcall('ZADD', KEYS[4], now, id)
    end
    obsolete[#obsolete + 1] = held[job]
    obsolete[#obsolete + 1] = 'arq:retry:' .. id
    obsolete[#obsolete + 1] = 'arq:job:' .. id
    gone[#gone + 1] = id
    totals[kind] = (totals[kind] or 0) + 1
    if run ~= '' then
      local seen = runs[run]
      if seen == nil then
        seen = redis.call('TYPE', 'twolane:run:' .. run).ok == 'hash' and {outcomes = {}, kinds = {}} or false
        runs[run] = seen
      end
      if seen then
        local outcomes = seen.outcomes
        outcomes[#outcomes + 1] = #outcomes / 2
        outcomes[#outcomes + 1] = ARGV[i + 7] == '' and ARGV[i + 2] or ARGV[i + 7]
        if #outcomes == 64 then
          redis.pcall('XADD', 'twolane:run:' .. run .. ':outcomes', '*', unpack(outcomes))
          seen.outcomes = {}
        end
        seen.kinds[kind] = (seen.kinds[kind] or 0) + 1
      end
    end
  end
end
if #gone > 0 then
  for keep, kept in pairs(results) do set_many(kept, keep ~= '-1' and keep or nil) end
  redis.call('DEL', unpack(obsolete))
  redis.pcall('ZREM', KEYS[1], unpack(gone))
  if redis.call('EXISTS', KEYS[3]) == 1 then redis.pcall('ZREM', KEYS[3], unpack(gone)) end
  for kind, count in pairs(totals) do redis.pcall('HINCRBY', KEYS[2], kind, count) end
end
if #fenced > 0 then redis.pcall('HINCRBY', KEYS[2], 'fenced', #fenced) end
for run, seen in pairs(runs) do
  if seen then
    local stream = 'twolane:run:' .. run .. ':outcomes'
    if #seen.outcomes > 0 then redis.pcall('XADD', stream, '*', unpack(seen.outcomes)) end
    for kind, count in pairs(seen.kinds) do redis.pcall('HINCRBY', 'twolane:run:' .. run, kind, count) end
    redis.call('EXPIRE', 'twolane:run:' .. run, ARGV[1])
    redis.call('EXPIRE', stream, ARGV[1])
  end
end
return fenced
