-- ARGV: token, turn, version, entries, body, hot ttl_ms, ledger ttl_ms, reserve, how many notes are recorded, then key
-- and value of each new entry
local token, reserve = ARGV[1], ARGV[8]
if redis.call('GET', KEYS[LOCK]) ~= token then
  redis.call('DEL', KEYS[HOT])
  return 0
end
-- A server out of memory refuses what adds, and does the rest: no copy, but the lock goes.
local written = redis.pcall('HSET', KEYS[HOT], 't', ARGV[2], 'v', ARGV[3], 'n', ARGV[4], 'b', ARGV[5], 'r', run_id(), 'w', token)
if type(written) == 'table' and written.err then
  redis.call('DEL', KEYS[HOT])
else
  redis.call('HDEL', KEYS[HOT], 'd')
  redis.call('PEXPIRE', KEYS[HOT], ARGV[6])
end
for first = 10, #ARGV, 1000 do  -- Lua's stack limits how much unpack can hold
  redis.pcall('HSET', KEYS[LEDGER], unpack(ARGV, first, math.min(first + 999, #ARGV)))
end
redis.call('PEXPIRE', KEYS[LEDGER], ARGV[7])
-- Notes that came since this step began (of the requests that it kept out) wait for the next one.
redis.call('LTRIM', KEYS[NOTES], ARGV[9], -1)
if reserve == '' then
  redis.call('DEL', KEYS[MARK], KEYS[LOCK])
else
  redis.call('DEL', KEYS[MARK])
  redis.call('SET', KEYS[LOCK], RESERVED .. reserve, 'KEEPTTL')
end
return 1
