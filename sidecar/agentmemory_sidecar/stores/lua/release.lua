-- ARGV: token, '1' when the state item is surely unchanged, note ('' for none), most notes, notes ttl_ms
local mine = redis.call('GET', KEYS[LOCK]) == ARGV[1]
if ARGV[2] ~= '1' then
  redis.call('DEL', KEYS[HOT])
elseif mine and redis.call('HGET', KEYS[HOT], 'd') == ARGV[1] then
  redis.call('HDEL', KEYS[HOT], 'd')
end
if mine then
  redis.call('DEL', KEYS[LOCK])
end
if ARGV[3] ~= '' then
  add_note(ARGV[3], ARGV[4], ARGV[5])
end
return mine and 1 or 0
