-- ARGV: token, request, extends, ttl_ms, ms left under which a lock has missed a renewal, token of the step
-- whose copy is known ('' for none), how many ledger entries are known with it
local token, request, extends, ttl_ms = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local took_over = 0
local holder = redis.call('GET', KEYS[LOCK])
if holder then
  local left = redis.call('PTTL', KEYS[LOCK])
  if holder:sub(1, #RESERVED) == RESERVED then
    if extends == '' or not (holder .. ' '):find(' ' .. extends .. ' ', 1, true) then
      return {'reserved', left}
    end
  elseif request ~= '' and holder:sub(-#request - 1) == ':' .. request and left < tonumber(ARGV[5]) then
    took_over = 1
  else
    return {holder, left}
  end
end
redis.call('SET', KEYS[LOCK], token, 'PX', ttl_ms)
local copy, rest, present = snapshot(ARGV[6], ARGV[7])
if copy then
  redis.call('HSET', KEYS[HOT], 'd', token)
elseif present then
  redis.call('DEL', KEYS[HOT])
end
return {took_over, copy or false, unpack(rest)}
