-- Read before every other script. Keys come in this order wherever a script names them all:
local LOCK, HOT, LEDGER, ACK, NOTES, MARK = 1, 2, 3, 4, 5, 6

-- The hot copy is a hash: t(urn), v(ersion), n (ledger entries that belong to it), b(ody),
-- r (run id of the primary that wrote it), d (token of the step that made it dirty; absent while clean).

-- A new primary, or the same one after a restart, has another run id: what it inherited by replication or from
-- its disk may lack the last writes, such as the mark that a copy is dirty.
local function run_id()
  return redis.call('INFO', 'server'):match('run_id:(%x+)')
end

local RESERVED = 'reserved '

-- What the hot tier knows of a conversation, as (copy or false, everything else).
local function snapshot()
  local fields = redis.call('HMGET', KEYS[HOT], 't', 'v', 'n', 'r', 'd', 'b')
  local ledger = redis.call('HGETALL', KEYS[LEDGER])
  local trusted = fields[1] and not fields[5] and #ledger / 2 >= tonumber(fields[3]) and fields[4] == run_id()
  return trusted and fields, {
    ledger,
    redis.call('LRANGE', KEYS[NOTES], 0, -1),
    redis.call('GET', KEYS[ACK]),
    redis.call('EXISTS', KEYS[MARK]),
  }, fields[1]
end

-- A note is worth no failure: a server out of memory refuses it, and does the rest.
local function add_note(note, most, ttl_ms)
  redis.pcall('RPUSH', KEYS[NOTES], note)
  redis.call('LTRIM', KEYS[NOTES], -most, -1)
  redis.call('PEXPIRE', KEYS[NOTES], ttl_ms)
end
