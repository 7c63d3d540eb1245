-- Leases, read once and written once a call. A row is { 0, candidate, granted_at, send_within,
-- expires_at, amounts, common accounts, shard, epoch, usage, note, over, tag } while held and
-- { 1, candidate, memo } when settled. And what they used, added up by name.

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

local used, used_names = {}, {}

-- Adds to what was used today, under the name of the lease and what came of it.
-- sums: { leases, requests, input tokens, total tokens, spend }
local function record(row, outcome, sums)
  if row[10] == '' or outcome == '' then return end
  local name = table.concat({ row[10], row[13], row[2], outcome }, USAGE_MARK)
  local known = used[name]
  if not known then
    known = { 0, 0, 0, 0, 0, 0 }
    used[name] = known
    used_names[#used_names + 1] = name
  end
  for i = 1, 5 do known[i] = known[i] + sums[i] end
  if row[12] then known[6] = known[6] + sums[2] end
end

-- Writes what was used.
local function save_usage()
  if #used_names == 0 then return end
  local key
  for i = 1, #day_ends do
    if day_ends[i] > now then key = KEYS[#KEYS - #day_ends + i] break end
  end
  local rows, fields = read_many(key, used_names), {}
  for i = 1, #used_names do
    local sums = used[used_names[i]]
    if rows[i] then
      local known = cmsgpack.unpack(rows[i])
      for j = 1, 6 do sums[j] = sums[j] + known[j] end
    end
    fields[#fields + 1] = used_names[i]
    fields[#fields + 1] = cmsgpack.pack(sums)
  end
  call_many('HSET', key, fields)
  redis.call('PEXPIRE', key, USAGE_LIFETIME + 86400000)
end

-- Writes what changed and forgets what has ended, at most `at_most`; a lease that was never reported is
-- recorded as such.
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
  if #gone == 0 then return end
  local ended = read_many(LEASES, gone)
  for i = 1, #gone do
    -- The second byte of a packed row is its first item: 0 while held.
    if ended[i] and string.byte(ended[i], 2) == 0 then
      local row = cmsgpack.unpack(ended[i])
      local amounts = row[6]
      record(row, UNREPORTED, { 1, amounts[1], amounts[2], amounts[3], amounts[4] })
    end
  end
  call_many('HDEL', LEASES, gone)
  call_many('ZREM', FORGET, gone)
end
