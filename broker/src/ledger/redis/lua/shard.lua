-- The candidates of one quota model: ready ones by rank, parked ones by when they become ready.
-- The same as broker/src/ledger/shard.rs. Both orders are read in pieces, as far as they are
-- needed, and changed in memory; what changed is written once at the end.
--
-- In memory a candidate is { name, row, place = 'r' or 'p', score, stored = its place in Redis,
-- listed = in an order's list?, moved = changed?, loaded = accounts read? }; row is { class, step, limited, sparse, rank
-- when parked, tag }.

local function before(score, name, other_score, other_name)
  return score < other_score or (score == other_score and name < other_name)
end

-- The position of the first item of the order that does not stand before (score, name).
local function order_find(order, score, name)
  local list, low, high = order.list, 1, #order.list + 1
  while low < high do
    local middle = math.floor((low + high) / 2)
    if before(list[middle].score, list[middle].name, score, name) then low = middle + 1 else high = middle end
  end
  return low
end

local function order_insert(order, candidate)
  local list = order.list
  local last = list[#list]
  -- Most come in behind the last one: who is read from Redis, and who was just granted a lease.
  if not last or before(last.score, last.name, candidate.score, candidate.name) then
    list[#list + 1] = candidate
  else
    table.insert(list, order_find(order, candidate.score, candidate.name), candidate)
  end
  candidate.listed = true
end

local function order_remove(order, candidate)
  if candidate.listed then
    table.remove(order.list, order_find(order, candidate.score, candidate.name))
    candidate.listed = false
  end
end

-- Reads the rows of those candidates that were not read yet.
local function load_candidates(shard, names)
  local missing = {}
  for i = 1, #names do
    if shard.candidates[names[i]] == nil then
      shard.candidates[names[i]] = false
      missing[#missing + 1] = names[i]
    end
  end
  if #missing == 0 then return end
  local rows = read_many(shard.rows, missing)
  for i = 1, #missing do
    if rows[i] then
      shard.candidates[missing[i]] = { name = missing[i], row = cmsgpack.unpack(rows[i]) }
    end
  end
end

-- Reads the next `count` of an order.
local function order_load(shard, order, count)
  local got = redis.call('ZRANGE', order.key, order.offset, order.offset + count - 1, 'WITHSCORES')
  order.offset = order.offset + #got / 2
  order.more = #got / 2 == count
  if #got == 0 then return end
  order.last_score, order.last_name = tonumber(got[#got]), got[#got - 1]
  local names, ids = {}, {}
  for i = 1, #got, 2 do names[(i + 1) / 2] = got[i] end
  load_candidates(shard, names)
  for i = 1, #got, 2 do
    local candidate = shard.candidates[got[i]]
    -- Who moved in this call stands where memory says, not where Redis still has it.
    if candidate and not candidate.moved and not candidate.listed then
      candidate.place, candidate.stored, candidate.score = order.place, order.place, tonumber(got[i + 1])
      order_insert(order, candidate)
      if order.place == 'r' then
        local limited, sparse = candidate.row[3], candidate.row[4]
        for j = 1, #limited do ids[#ids + 1] = limited[j] end
        for j = 1, #sparse do ids[#ids + 1] = sparse[j] end
        candidate.loaded = true
      end
    end
  end
  load_accounts(ids)
end

-- The item at a position of an order, none at its end.
local function order_at(shard, order, position)
  while true do
    local item = order.list[position]
    if not order.more then return item end
    if item and not before(order.last_score, order.last_name, item.score, item.name) then return item end
    order_load(shard, order, order.piece)
    order.piece = math.min(order.piece * 4, MAX_TRIES)
  end
end

-- Makes a candidate's place known without its order being read that far.
local function find_place(shard, candidate)
  if candidate.place then return end
  local score = redis.call('ZSCORE', shard.ready.key, candidate.name)
  local place = 'r'
  if not score then
    score = redis.call('ZSCORE', shard.parked.key, candidate.name)
    place = 'p'
  end
  if score then
    candidate.place, candidate.stored, candidate.score = place, place, tonumber(score)
  end
end

-- The rank a candidate has, or would have if it came back from parking now.
local function rank_of(shard, candidate)
  if candidate.place == 'r' then return candidate.score end
  if shard.order == LEAST_RECENT then return candidate.row[5] end
  local class, step = candidate.row[1], candidate.row[2]
  local base = class * CLASS_SPAN + shard.virtual_time[class + 1]
  return math.min(math.max(candidate.row[5], base), base + step)
end

local function move(shard, candidate, place, score)
  if candidate.place == 'r' then order_remove(shard.ready, candidate) else order_remove(shard.parked, candidate) end
  candidate.place, candidate.score, candidate.moved = place, score, true
  if place == 'r' then order_insert(shard.ready, candidate) else order_insert(shard.parked, candidate) end
end

local function park(shard, candidate, at)
  if candidate.place == 'r' then candidate.row[5] = candidate.score end
  move(shard, candidate, 'p', at)
end

local function unpark(shard, candidate)
  move(shard, candidate, 'r', rank_of(shard, candidate))
end

-- How much of a candidate's limits the amounts take, by the limit of which they take most.
local function share_of(candidate, amounts)
  local most, limited = 0, candidate.row[3]
  for i = 1, #limited do
    local windows = accounts[limited[i]].row[8]
    for j = 1, #windows do
      local window = windows[j]
      if window[3] < UNLIMITED and window[2] ~= 0 then most = math.max(most, amounts[AMOUNT[window[1]]] / window[3]) end
    end
  end
  return most
end

-- The health of a candidate's key.
local function health_of(candidate)
  local damage = 0
  for list = 3, 4 do
    local ids = candidate.row[list]
    for i = 1, #ids do
      local account = accounts[ids[i]]
      if account and string.byte(ids[i]) == 107 then damage = math.max(damage, account.row[10]) end -- 107: k
    end
  end
  return FULL_HEALTH - damage
end

-- Moves a candidate behind, because it was granted a lease of those amounts; its accounts are charged already.
local function advance(shard, candidate, amounts)
  local rank, class, step = rank_of(shard, candidate), candidate.row[1], candidate.row[2]
  local base, passed = class * CLASS_SPAN, shard.virtual_time[class + 1]
  local time, behind = rank - base, rank + step
  if shard.order == BY_HEALTH then
    behind = rank + math.floor(step * 100 / math.max(health_of(candidate), 1))
  elseif shard.order == LEAST_UTILIZED then
    behind = rank + math.max(math.floor(step * share_of(candidate, amounts)), 1)
  elseif shard.order == LEAST_RECENT then
    time = math.max(passed, now * TICKS) + 1
    behind = base + time
  end
  if time > passed then shard.virtual_time[class + 1] = time end
  shard.changed = true
  move(shard, candidate, 'r', behind)
end

-- Starts virtual time anew in classes that reached `rebase_at`.
local function rebase(shard, rebase_at)
  if shard.order == LEAST_RECENT then return end
  for class = 0, #shard.virtual_time - 1 do
    local passed = shard.virtual_time[class + 1]
    if passed >= rebase_at then
      while shard.ready.more do order_load(shard, shard.ready, MAX_TRIES) end
      shard.virtual_time[class + 1] = 0
      shard.changed = true
      local list, base = shard.ready.list, class * CLASS_SPAN
      for i = 1, #list do
        if list[i].row[1] == class then
          list[i].score = math.max(list[i].score - passed, base)
          list[i].moved = true
        end
      end
    end
  end
end

-- An order of which nothing was read yet; piece: how many to read first.
local function open_order(place, key, piece)
  return { place = place, key = key, list = {}, offset = 0, more = true, piece = piece, last_score = -math.huge, last_name = '' }
end

-- Opens a shard from its row { epoch, virtual times, order }; wanted: how many acquires name it.
local function open_shard(index, name, row, wanted)
  local key = POOL_KEYS + (index - 1) * 3
  local state = cmsgpack.unpack(row)
  return {
    name = name,
    rows = KEYS[key + 1],
    epoch = state[1],
    virtual_time = state[2],
    order = state[3],
    candidates = {}, -- by name; false where there is no row
    ready = open_order('r', KEYS[key + 2], math.max(wanted, 1)),
    parked = open_order('p', KEYS[key + 3], 4),
    changed = false,
  }
end

-- The shards of those names, by number and by name, because a shard may be named twice; false where there is none.
-- Their rows stand in `meta` behind its first `before` fields. wanted: by number, how many leases are asked of them.
local function open_shards(names, meta, before, wanted)
  local shards, opened = {}, {}
  for i = 1, #names do
    local name, row = names[i], meta[before + i]
    if opened[name] == nil then opened[name] = row and open_shard(i, name, row, wanted[i] or 0) or false end
    shards[i] = opened[name]
  end
  return shards, opened
end

-- Writes who moved; returns the shard's row if that changed.
local function save_shard(shard)
  local ready, parked, unready, unparked, rows = {}, {}, {}, {}, {}
  for name, candidate in pairs(shard.candidates) do
    if candidate and candidate.moved then
      if candidate.place == 'r' then
        ready[#ready + 1] = candidate.score
        ready[#ready + 1] = name
        if candidate.stored == 'p' then unparked[#unparked + 1] = name end
      else
        parked[#parked + 1] = candidate.score
        parked[#parked + 1] = name
        rows[#rows + 1] = name
        rows[#rows + 1] = cmsgpack.pack(candidate.row)
        if candidate.stored == 'r' then unready[#unready + 1] = name end
      end
    end
  end
  call_many('ZADD', shard.ready.key, ready)
  call_many('ZADD', shard.parked.key, parked)
  call_many('ZREM', shard.ready.key, unready)
  call_many('ZREM', shard.parked.key, unparked)
  call_many('HSET', shard.rows, rows)
  -- An order that was empty is a new key, which has no lifetime yet.
  if #unready > 0 then redis.call('PEXPIRE', shard.parked.key, SHARD_LIFETIME) end
  if #unparked > 0 then redis.call('PEXPIRE', shard.ready.key, SHARD_LIFETIME) end
  if shard.changed then return cmsgpack.pack({ shard.epoch, shard.virtual_time, shard.order }) end
end

-- Writes all of them, and adds their rows that changed to the fields of META.
local function save_shards(opened, fields)
  for _, shard in pairs(opened) do
    local row = shard and save_shard(shard)
    if row then
      fields[#fields + 1] = 's:' .. shard.name
      fields[#fields + 1] = row
    end
  end
end
