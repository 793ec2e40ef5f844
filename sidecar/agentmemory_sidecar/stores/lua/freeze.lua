-- ARGV: key, entry, ttl_ms. The first writer of a key wins.
redis.call('HSETNX', KEYS[LEDGER], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[LEDGER], ARGV[3])
return redis.call('HGET', KEYS[LEDGER], ARGV[1])
