-- ARGV: token, ttl_ms
if redis.call('GET', KEYS[LOCK]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[LOCK], ARGV[2])
