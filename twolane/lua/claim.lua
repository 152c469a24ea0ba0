-- Takes due jobs under a lease.
--
-- KEYS  1 queue (sorted set)   2 arq's aborts (sorted set)
-- ARGV  1 fence of this claim   2 lease, ms   3 how many at the most   4 how many workers share the queue
--       5 how many bytes of payloads at the most; one payload may take more
-- Returns {now in ms, next due time in ms or -1 (now, where jobs were left or a lease ends now), then for
-- each job: id, payload (nil where it expired), try (1 for the first), the time it was due in ms, '1'
-- where its abort was asked for}.
-- Atomic: no two claims take the same job; a claimed job is due again when its lease ends, unless
-- it is renewed.
-- A script that has begun to write may go on when maxmemory is reached: what runs must be able to end.
redis.call('DEL', 'twolane:none')
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local lease_end = now + ARGV[2]
local want, left = tonumber(ARGV[3]), false
local workers = tonumber(ARGV[4])
if workers > 1 then
  -- What is due is shared out: the first to ask does not take what others have free slots for.
  local due = redis.call('ZCOUNT', KEYS[1], '-inf', now)
  local share = math.ceil(due / workers)
  if share < want then
    want, left = share, share < due
  end
end
local ids, scores, skipped, ends_now = {}, {}, 0, false
-- A due job that is held is one that a stock arq worker runs: arq leaves it in the due part of the
-- set. 1,000 bounds the time of one call; a queue shared with more stock slots is not expected.
while #ids < want and skipped < 1000 do
  local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'WITHSCORES', 'LIMIT', skipped, want - #ids)
  if #due == 0 then break end
  local was_all = #due < 2 * (want - #ids)  -- there is nothing else that is due
  local leases, places = {}, {}
  for i = 1, #due, 2 do
    leases[#leases + 1] = 'arq:in-progress:' .. due[i]
    leases[#leases + 1] = ARGV[1]
  end
  local all_free = set_many(leases, ARGV[2], true)
  for i = 1, #due, 2 do
    local id = due[i]
    if all_free or redis.call('SET', 'arq:in-progress:' .. id, ARGV[1], 'NX', 'PX', ARGV[2]) then
      ids[#ids + 1] = id
      scores[#scores + 1] = due[i + 1]
      places[#places + 1] = lease_end
      places[#places + 1] = id
    else
      skipped = skipped + 1
      -- A lease lives to the end of its last millisecond: this one is over in the next.
      ends_now = ends_now or tonumber(due[i + 1]) == now
    end
  end
  -- What was taken leaves the due part before it is read again.
  if #places > 0 then redis.call('ZADD', KEYS[1], unpack(places)) end
  if was_all then break end
end
local out, taken = {now, -1}, #ids
if taken > 0 then
  -- Any client can make it a key of another type: then there are no aborts, and the work goes on.
  local aborts = redis.pcall('ZCARD', KEYS[2])
  aborts = type(aborts) == 'number' and aborts > 0
  local read, tries = {}, {}
  for i = 1, taken do
    read[i * 2 - 1] = 'arq:job:' .. ids[i]
    read[i * 2] = 'arq:retry:' .. ids[i]
  end
  local all, bytes, most, last, some, found = taken, 0, tonumber(ARGV[5]), 0, taken, nil
  if taken > 4 then
    -- Where the first one is large, no more are read than may go out: to read all of them at each claim
    -- held the server up. Of few it is not worth the look. A key of another type has no length.
    local length = redis.pcall('STRLEN', read[1])
    if type(length) == 'number' and length * taken > most then
      some = math.max(1, math.floor(most / length))
    end
  end
  repeat
    local first = last + 1
    last = math.min(last + some, taken)
    local part = redis.call('MGET', unpack(read, first * 2 - 1, last * 2))
    if first == 1 then
      found = part
    else
      for i = 1, #part do found[first * 2 - 2 + i] = part[i] end
    end
    for i = first, last do
      local payload = found[i * 2 - 1]
      if payload then bytes = bytes + #payload end
      if bytes > most and i > 1 then
        taken = i - 1
        break
      end
    end
    some = 1
  until last >= taken
  if taken < all then
    -- A reply that is too long comes too late: the rest goes back to where it was.
    local leases, places = {}, {}
    for i = taken + 1, all do
      leases[#leases + 1] = 'arq:in-progress:' .. ids[i]
      places[#places + 1] = scores[i]
      places[#places + 1] = ids[i]
    end
    redis.call('DEL', unpack(leases))
    redis.call('ZADD', KEYS[1], unpack(places))
    want, left = taken, true
  end
  for i = 1, taken do
    local try = tonumber(found[i * 2] or 0) or 0
    -- Any client can put anything there.
    if not (try >= 0 and try < 1e9) then try = 0 end
    try = math.floor(try) + 1
    tries[i * 2 - 1] = read[i * 2]
    tries[i * 2] = try
    local at = i * 5 - 2
    out[at] = ids[i]
    out[at + 1] = found[i * 2 - 1]
    out[at + 2] = try
    out[at + 3] = scores[i]
    out[at + 4] = (aborts and redis.call('ZSCORE', KEYS[2], ids[i])) and '1' or ''
  end
  set_many(tries, 88400000)
end
if ends_now or taken == want and left then
  out[2] = now
elseif taken < tonumber(ARGV[3]) then
  local later = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if #later > 0 then out[2] = tonumber(later[2]) end
end
return out
