-- Read before every other script. Keys come in this order wherever a script names them all:
local LOCK, HOT, LEDGER, ACK, NOTES, MARK = 1, 2, 3, 4, 5, 6

-- The hot copy is a hash: t(urn), v(ersion), n (ledger entries that belong to it), b(ody),
-- r (run id of the primary that wrote it), w (token of the step that wrote it), d (token of the step that made it dirty;
-- absent while clean).

-- A new primary, or the same one after a restart, has another run id: what it inherited by replication or from
-- its disk may lack the last writes, such as the mark that a copy is dirty.
local function run_id()
  return redis.call('INFO', 'server'):match('run_id:(%x+)')
end

local RESERVED = 'reserved '

-- What the hot tier knows of a conversation, as (copy or false, everything else, whether there is any copy). To one that
-- keeps what the step `known` wrote, with as many ledger entries, copy and ledger are not told again if they are those:
-- entries are never changed, and never taken out one by one.
local function snapshot(known, entries)
  local fields = redis.call('HMGET', KEYS[HOT], 't', 'v', 'n', 'r', 'd', 'w')
  local length = redis.call('HLEN', KEYS[LEDGER])
  local trusted = fields[1] and not fields[5] and length >= tonumber(fields[3]) and fields[4] == run_id()
  local same = trusted and known ~= '' and fields[6] == known and length == tonumber(entries)
  local copy = trusted and {fields[1], fields[2], fields[3], same and '' or redis.call('HGET', KEYS[HOT], 'b')}
  return copy, {
    same and {} or redis.call('HGETALL', KEYS[LEDGER]),
    redis.call('LRANGE', KEYS[NOTES], 0, -1),
    redis.call('GET', KEYS[ACK]),
    redis.call('EXISTS', KEYS[MARK]),
    same and 1 or 0,
  }, fields[1]
end

-- A note is worth no failure: a server out of memory refuses it, and does the rest.
local function add_note(note, most, ttl_ms)
  redis.pcall('RPUSH', KEYS[NOTES], note)
  redis.call('LTRIM', KEYS[NOTES], -most, -1)
  redis.call('PEXPIRE', KEYS[NOTES], ttl_ms)
end
