-- Restore: puts a registry back that lost its latest changes, or all of it.
--
-- KEYS: meta, entries. ARGV: [1] its identity, [2] the number of its version, [3] the name of the change that made it,
-- then rows { name, revision, created, updated, body }.
-- Returns 1, or 0 if a registry is there that is as new, or another one. Records of changes are not put back.

local meta = redis.call('HMGET', KEYS[1], 'id', 'version')
if meta[1] and (meta[1] ~= ARGV[1] or tonumber(meta[2]) >= tonumber(ARGV[2])) then return 0 end
redis.call('DEL', KEYS[2])
for i = 4, #ARGV do
  local row = cmsgpack.unpack(ARGV[i])
  redis.call('HSET', KEYS[2], row[1], cmsgpack.pack({ row[2], row[3], row[4], row[5] }))
end
redis.call('HSET', KEYS[1], 'id', ARGV[1], 'version', ARGV[2], 'change', ARGV[3])
return 1
