-- Puts jobs into a queue; a job whose id is already known is left as it is, but for one that has lost
-- its place. Opens and seals their run where that is asked for, so that a small run is enqueued whole
-- in one call.
--
-- KEYS  1 queue (sorted set)   2 the queue's counters (hash)   3 the run (hash), or the queue again
--       4 runs (sorted set)   5 the other lane's queue (sorted set)
-- ARGV  1 run name, '' for none   2 the run's time to live, s   3 wake channel
--       4 what to do with the run besides counting: '' nothing, 'open' make it, 'seal' say that nothing
--       more comes, 'both'   5 its kind, for opening
--       6 what tells this call from all others of the run, '' where it is sent only once
--       then for each job: id, payload, delay in ms, time to live of the payload in ms ('0': none)
-- Returns {now in ms, or -1 where the run to open exists and nothing was done; then the ids that were
-- refused: waiting, running or with a result kept already}. One that has a payload and is nowhere (its
-- place was deleted) is refused too, and gets a place again: with the payload that it has, counted no
-- second time. Payloads that expire are not looked at: they may wait in an arq application's own queue.
-- Atomic: a payload and its place in the queue appear together; the run's total counts what was
-- accepted, so sending the same call again after a lost reply changes nothing. Ids alone would not tell
-- that for jobs that are over and whose results nobody keeps: the run knows its last call.
-- Of the shared keys, which any client can make to be of another type, the queue is needed: it is an
-- error before anything is changed. The others are passed over (pcall).
if #ARGV > 6 then redis.call('ZCARD', KEYS[1]) end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local answer, run, order, call = {now}, ARGV[1], ARGV[4], ARGV[6]
if call ~= '' and redis.call('HGET', KEYS[3], 'call') == call then
  return {tonumber(redis.call('HGET', KEYS[3], 'created_ms'))}
end
local about = {}  -- what the run is told, in one command
local function note(field, value)
  about[#about + 1] = field
  about[#about + 1] = value
end
if order == 'open' or order == 'both' then
  if redis.call('HSETNX', KEYS[3], 'created_ms', now) == 0 then return {-1} end
  note('kind', ARGV[5])
  redis.pcall('ZADD', KEYS[4], now, run)
  -- The list forgets what has expired itself.
  redis.pcall('ZREMRANGEBYSCORE', KEYS[4], '-inf', now - ARGV[2] * 1000)
end
if call ~= '' then note('call', call) end
local known = {}
for i = 7, #ARGV, 4 do
  known[#known + 1] = 'arq:job:' .. ARGV[i]
  known[#known + 1] = 'arq:result:' .. ARGV[i]
end
local all_new = #known == 0 or redis.call('EXISTS', unpack(known)) == 0
local places, payloads, seen, accepted = {}, {}, {}, 0
for i = 7, #ARGV, 4 do
  local id = ARGV[i]
  local key, result = known[(i - 7) / 2 + 1], known[(i - 7) / 2 + 2]
  if seen[id] or not all_new and redis.call('EXISTS', key, result) > 0 then
    answer[#answer + 1] = id
    if not seen[id] and not redis.call('ZSCORE', KEYS[1], id) and not redis.pcall('ZSCORE', KEYS[5], id)
      and redis.call('EXISTS', 'arq:in-progress:' .. id, result) == 0
      and redis.call('PTTL', key) == -1 then
      places[#places + 1] = now + ARGV[i + 2]
      places[#places + 1] = id
    end
  else
    seen[id] = true
    if ARGV[i + 3] == '0' then
      payloads[#payloads + 1] = key
      payloads[#payloads + 1] = ARGV[i + 1]
    else
      redis.call('SET', key, ARGV[i + 1], 'PX', ARGV[i + 3])
    end
    places[#places + 1] = now + ARGV[i + 2]
    places[#places + 1] = id
    accepted = accepted + 1
  end
end
if #payloads > 0 then redis.call('MSET', unpack(payloads)) end
if #places > 0 then
  redis.call('ZADD', KEYS[1], unpack(places))
  redis.call('PUBLISH', ARGV[3], 'work')
end
if accepted > 0 then
  redis.pcall('HINCRBY', KEYS[2], 'enqueued', accepted)
  -- The first ones need no sum.
  if order == 'both' then note('total', accepted)
  elseif run ~= '' then redis.call('HINCRBY', KEYS[3], 'total', accepted) end
end
if run ~= '' then
  -- A run that is gone (it expired, it was deleted) is not made again by its end.
  if order == 'seal' and redis.call('HEXISTS', KEYS[3], 'created_ms') == 0 then
    redis.call('DEL', KEYS[3])
    about = {}
  elseif order == 'seal' or order == 'both' then note('sealed', '1') end
  if #about > 0 then redis.call('HSET', KEYS[3], unpack(about)) end
  redis.call('EXPIRE', KEYS[3], ARGV[2])
end
return answer
