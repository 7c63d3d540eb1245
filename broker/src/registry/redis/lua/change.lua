-- Change: entries, version and audit records in one step, or nothing of it.
--
-- KEYS: meta, entries, audit. ARGV: [1] the version it was decided by, or nothing for any, [2] a name for this change,
-- [3] edits: { writes, record } each, where a write is { name, body } and an empty body removes, [4] how many records
-- are kept, [5] for how long (milliseconds), [6] the identity to give a registry that does not exist.
-- Returns the version, or nothing if the registry stands at another one than the change was decided by.
-- An edit that changes nothing is not recorded. Records go by number and age; the rest is permanent.

local meta = redis.call('HMGET', KEYS[1], 'id', 'version', 'change')
local id, number, change = meta[1], tonumber(meta[2]) or 0, meta[3]
local function version() return id and string.format('%s-%d-%s', id, number, change) or '0' end
if ARGV[1] ~= '' and ARGV[1] ~= version() then return false end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local revision = number + 1
local changed = false

local function write(name, body)
  local packed = redis.call('HGET', KEYS[2], name)
  local row = packed and cmsgpack.unpack(packed)
  if body == '' then return redis.call('HDEL', KEYS[2], name) == 1 end
  if row and row[4] == body then return false end
  redis.call('HSET', KEYS[2], name, cmsgpack.pack({ revision, row and row[2] or now, now, body }))
  return true
end

for _, edit in ipairs(cmsgpack.unpack(ARGV[3])) do
  -- What writes nothing here was done elsewhere, and is only recorded.
  local edited = #edit[1] == 0
  for _, each in ipairs(edit[1]) do edited = write(each[1], each[2]) or edited end
  if edited then
    redis.call('XADD', KEYS[3], '*', 'record', edit[2])
    changed = true
  end
end
if changed then
  id, number, change = id or ARGV[6], revision, ARGV[2]
  redis.call('HSET', KEYS[1], 'id', id, 'version', string.format('%d', number), 'change', change)
  redis.call('XTRIM', KEYS[3], 'MAXLEN', ARGV[4])
  redis.call('XTRIM', KEYS[3], 'MINID', string.format('%d', now - tonumber(ARGV[5])))
end
return version()
