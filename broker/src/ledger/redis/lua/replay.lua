-- Replay: puts back what a broker remembers of leases, into a ledger that is not blessed for this run of its
-- server. What is there already stays, so a broker may do it again.
--
-- KEYS: meta, accounts, leases, forget, idle; then candidates, ready and parked of each shard; then usage of
--       each day whose end is given.
-- ARGV: [1] a MessagePack array: ledger id, clock, ends of days, ends of months, names of shards, settles, renewals,
--       grants, common accounts; as in a batch, but grants are { acquire, candidate, granted_at, expires_at, over },
--       and renewals name the expiry in the place of the time to live. [2] the run of the server.
-- Returns { how many leases were put back, how many could not be }. Errors: CHANGED, CLOCK.

local names, settles, renews, grants, commons = input[5], input[6], input[7], input[8], input[9]

local fields = { 'id', 'now', 'epoch', 'run' }
for i = 1, #names do fields[4 + i] = 's:' .. names[i] end
local meta = redis.call('HMGET', META, unpack(fields))
if meta[1] ~= input[1] then return redis.error_reply('CHANGED ' .. (meta[1] or 'none')) end
if meta[4] == ARGV[2] then return { 0, 0 } end
now = not_before(tonumber(meta[2]) or 0)
epoch = tonumber(meta[3]) or 0
local outside = outside_calendar()
if outside then return outside end

local shards, opened = open_shards(names, meta, 4, {})
if #commons > 0 then
  local ids = {}
  for i = 1, #commons do ids[i] = commons[i][1] end
  load_accounts(ids)
  for i = 1, #commons do bring(commons[i]) end
end

local ids, candidates = {}, {}
for i = 1, #grants do
  ids[i] = grants[i][1][1]
  local shard = shards[grants[i][1][2] + 1]
  if shard then
    candidates[shard] = candidates[shard] or {}
    table.insert(candidates[shard], grants[i][2])
  end
end
load_leases(ids)
for shard, list in pairs(candidates) do load_candidates(shard, list) end

local back, left_out = 0, 0
for i = 1, #grants do
  local op, granted_at, expires_at = grants[i][1], grants[i][3], grants[i][4]
  local shard = shards[op[2] + 1]
  local candidate, common = shard and shard.candidates[grants[i][2]], common_of(op, commons)
  if leases[op[1]] then
    -- It is there.
  elseif not candidate or not common then
    left_out = left_out + 1
  else
    load_accounts(candidate.row[3])
    load_accounts(candidate.row[4])
    charge(candidate.row[3], op, granted_at, expires_at)
    charge(common, op, granted_at, expires_at)
    charge(candidate.row[4], op, granted_at, expires_at)
    keep_lease(op[1], expires_at + REMEMBER_EXPIRED,
      { 0, candidate.name, granted_at, op[5], expires_at, op[3], common, shard.name, epoch, op[9], op[10], grants[i][5], candidate.row[6] })
    back = back + 1
  end
end
if #settles + #renews > 0 then load_held(shards, settles, renews) end
for i = 1, #renews do
  local op = renews[i]
  local answer = renew(shards[op[2] + 1], { op[1], op[2], math.max(op[3] - now, 0) })
  -- 2: there is no such lease.
  if answer[1] == 2 and op[3] > now then left_out = left_out + 1 end
end
for i = 1, #settles do settle(shards[settles[i][2] + 1], settles[i]) end

-- Who stood ready may be full now, and who was parked free: they are looked at when they are asked for.
epoch = epoch + 1
local state = { 'epoch', string.format('%d', epoch) }
save_shards(opened, state)
save_accounts()
save_leases(0)
save_usage()
call_many('HSET', META, state)
return { back, left_out }
