-- Leases, read once and written once a call. A row is { 0, candidate, granted_at, send_within,
-- expires_at, permits, tokens, common accounts, shard, epoch } while held and { 1, candidate, memo } when settled.

local leases = {} -- by id; false where there is no row
local kept, keep_until = {}, {}

local function load_leases(ids)
  if #ids == 0 then return end
  local rows = read_many(LEASES, ids)
  for i = 1, #ids do
    leases[ids[i]] = rows[i] and cmsgpack.unpack(rows[i]) or false
  end
end

local function keep_lease(id, till, row)
  leases[id] = row
  if not keep_until[id] then kept[#kept + 1] = id end
  keep_until[id] = till
end

-- Writes what changed and forgets what has ended, at most `at_most`.
local function save_leases(at_most)
  local rows, times = {}, {}
  for i = 1, #kept do
    local id = kept[i]
    rows[#rows + 1] = id
    rows[#rows + 1] = cmsgpack.pack(leases[id])
    times[#times + 1] = keep_until[id]
    times[#times + 1] = id
  end
  call_many('HSET', LEASES, rows)
  call_many('ZADD', FORGET, times)
  local gone = redis.call('ZRANGEBYSCORE', FORGET, '-inf', now, 'LIMIT', 0, at_most)
  call_many('HDEL', LEASES, gone)
  call_many('ZREM', FORGET, gone)
end
