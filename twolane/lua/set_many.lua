-- Not a script of its own: put before those that set many keys.
--
-- set_many(found, px, nx): sets found[1] to found[2], found[3] to found[4] and so on, in one command
-- where the server has MSETEX (Valkey 9.1, Redis 8.4), which costs half of a SET each. `px` is a time
-- to live in ms, nil for none. With `nx` true nothing is set where any of the keys exists, and false
-- is returned. Adds to `found`.
local has_msetex = (redis.SERVER_VERSION_NUM or 0) >= 0x090100 or (redis.REDIS_VERSION_NUM or 0) >= 0x080400
local function set_many(found, px, nx)
  local count = #found / 2
  if count == 0 then return true end
  if px == nil then
    redis.call('MSET', unpack(found))
    return true
  end
  if has_msetex then
    if nx then found[#found + 1] = 'NX' end
    found[#found + 1] = 'PX'
    found[#found + 1] = px
    return redis.call('MSETEX', count, unpack(found)) == 1
  end
  if nx then
    for i = 1, count * 2, 2 do
      if redis.call('EXISTS', found[i]) == 1 then return false end
    end
  end
  for i = 1, count * 2, 2 do redis.call('SET', found[i], found[i + 1], 'PX', px) end
  return true
end
