-- ARGV: ttl_ms of the compaction mark, or '' to leave none
if ARGV[1] ~= '' then
  redis.call('SET', KEYS[MARK], '1', 'PX', ARGV[1])
end
local copy, rest = snapshot('', 0)
return {0, copy or false, unpack(rest)}
