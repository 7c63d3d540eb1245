-- Snapshot: all entries, unless they are known already.
--
-- KEYS: meta, entries. ARGV: [1] the version that is known.
-- Returns nothing if the registry stands at that version; else { version, rows }, where a row is
-- { name, revision, created, updated, body } (milliseconds by Redis' clock). Writes nothing.

local meta = redis.call('HMGET', KEYS[1], 'id', 'version', 'change')
local version = meta[1] and table.concat(meta, '-') or '0'
if version == ARGV[1] then return false end
local flat, rows = redis.call('HGETALL', KEYS[2]), {}
for i = 1, #flat, 2 do
  local row = cmsgpack.unpack(flat[i + 1])
  rows[#rows + 1] = cmsgpack.pack({ flat[i], row[1], row[2], row[3], row[4] })
end
return { version, rows }
