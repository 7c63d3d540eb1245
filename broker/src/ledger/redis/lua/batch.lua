-- Batch: settles, then renewals, then acquires, as one atomic step.
--
-- KEYS: meta, accounts, leases, forget, idle; then candidates, ready and parked of each shard; then usage of
--       each day whose end is given.
-- ARGV: [1] a MessagePack array: ledger id, clock (milliseconds; 0 for Redis' own), ends of days,
--       ends of months, rebase_at, names of shards, settles, renewals, acquires, common accounts
--       { id, generation, limits, mode, passing }, edits. [2] the run of the server that the caller knows, or
--       nothing to be served by any.
-- Returns a MessagePack array: now, answers to settles, renewals, acquires, edits; and how many replicas have to
-- acknowledge before anything is handed out. Errors: CHANGED, RUN, CLOCK.
-- Everything written is listed in broker/src/ledger/redis/keyspace.rs with its lifetime.

local names, settles, renews, acquires, commons, edits = input[6], input[7], input[8], input[9], input[10], input[11]

local fields = { 'id', 'now', 'epoch', 'run', 'acks' }
for i = 1, #names do fields[5 + i] = 's:' .. names[i] end
local meta = redis.call('HMGET', META, unpack(fields))
if meta[1] ~= input[1] then return redis.error_reply('CHANGED ' .. (meta[1] or 'none')) end
if ARGV[2] ~= '' and meta[4] ~= ARGV[2] then return redis.error_reply('RUN ' .. (meta[4] or 'none')) end
now = not_before(tonumber(meta[2]) or 0)
epoch = tonumber(meta[3]) or 0
local outside = outside_calendar()
if outside then return outside end

local wanted = {}
for i = 1, #acquires do
  local index = acquires[i][2] + 1
  wanted[index] = (wanted[index] or 0) + 1
end
local shards, opened = open_shards(names, meta, 5, wanted)

local reply = { now, {}, {}, {}, {} }
if #commons + #edits > 0 then
  local ids = {}
  for i = 1, #edits do ids[i] = edits[i][1] end
  for i = 1, #commons do ids[#ids + 1] = commons[i][1] end
  load_accounts(ids)
end
for i = 1, #edits do reply[5][i] = edit(edits[i]) end
for i = 1, #commons do bring(commons[i]) end
if #settles + #renews > 0 then load_held(shards, settles, renews) end
for i = 1, #settles do reply[2][i] = settle(shards[settles[i][2] + 1], settles[i]) end
for i = 1, #renews do reply[3][i] = renew(shards[renews[i][2] + 1], renews[i]) end

local function same_list(a, b)
  if #a ~= #b then return false end
  for i = 1, #a do
    if a[i] ~= b[i] then return false end
  end
  return true
end

local function same_request(a, b)
  return a[2] == b[2] and same_list(a[3], b[3])
    and same_list(a[6], b[6]) and same_list(a[7], b[7]) and same_list(a[8], b[8])
end

local last_refused
for i = 1, #acquires do
  -- The same request, refused a moment ago in this very step, is refused again.
  if last_refused and same_request(acquires[last_refused], acquires[i]) then
    reply[4][i] = reply[4][last_refused]
  else
    local answer = acquire(shards[acquires[i][2] + 1], acquires[i], commons)
    last_refused = answer[1] == 1 and i or nil
    reply[4][i] = answer
  end
end

local state = { 'now', string.format('%d', now), 'epoch', string.format('%d', epoch) }
for _, shard in pairs(opened) do
  if shard then rebase(shard, input[5]) end
end
save_shards(opened, state)
-- More than a batch can add, so that what is remembered does not outgrow it.
local at_most = FORGET_AT_ONCE + #settles + #renews + #acquires
save_accounts()
forget_idle(at_most)
save_leases(at_most)
save_usage()
call_many('HSET', META, state)
return { cmsgpack.pack(reply), meta[5] or '0' }
