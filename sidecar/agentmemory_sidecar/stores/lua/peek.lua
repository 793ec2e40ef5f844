-- ARGV: ttl_ms of the compaction mark, or '' to leave none
if ARGV[1] ~= '' then
  redis.call('SET', KEYS[MARK], '1', 'PX', ARGV[1])
end
local copy, rest = snapshot()
return {0, copy and {copy[1], copy[2], copy[3], copy[6]} or false, unpack(rest)}
