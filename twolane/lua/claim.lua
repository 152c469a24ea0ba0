-- Takes due jobs under a lease.
--
-- KEYS  1 queue (sorted set)   2 arq's aborts (sorted set)
-- ARGV  1 fence of this claim   2 lease, ms   3 how many at the most
-- Returns {now in ms, next due time in ms or -1, then for each job: id, payload (nil where it
-- expired), try (1 for the first), the time it was due in ms, '1' where its abort was asked for}.
-- Atomic: no two claims take the same job; a claimed job is due again when its lease ends, unless
-- it is renewed.
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local lease_end = now + ARGV[2]
local want = tonumber(ARGV[3])
local aborts = redis.call('EXISTS', KEYS[2]) == 1
local out, places, payload_keys, taken, skipped = {now, -1}, {}, {}, 0, 0
-- A due job that is held is one that a stock arq worker runs: arq leaves it in the due part of the
-- set. 1,000 bounds the time of one call; a queue shared with more stock slots is not expected.
while taken < want and skipped < 1000 do
  local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', skipped, want - taken)
  if #due == 0 then break end
  for i = 1, #due, 2 do
    local id = due[i]
    if redis.call('SET', 'arq:in-progress:' .. id, ARGV[1], 'NX', 'PX', ARGV[2]) then
      local try = redis.call('INCR', 'arq:retry:' .. id)
      if try == 1 then redis.call('EXPIRE', 'arq:retry:' .. id, 88400) end
      places[#places + 1] = lease_end
      places[#places + 1] = id
      payload_keys[#payload_keys + 1] = 'arq:job:' .. id
      local at = 2 + taken * 5
      out[at + 1] = id
      out[at + 3] = try
      out[at + 4] = due[i + 1]
      out[at + 5] = (aborts and redis.call('ZSCORE', KEYS[2], id)) and '1' or ''
      taken = taken + 1
    else
      skipped = skipped + 1
    end
  end
  -- What was taken leaves the due part before it is read again.
  if #places > 0 then
    redis.call('ZADD', KEYS[1], unpack(places))
    places = {}
  end
end
if taken > 0 then
  local payloads = redis.call('MGET', unpack(payload_keys))
  for i = 1, taken do
    out[2 + (i - 1) * 5 + 2] = payloads[i]
  end
end
if taken < want then
  local later = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if #later > 0 then out[2] = tonumber(later[2]) end
end
return out
