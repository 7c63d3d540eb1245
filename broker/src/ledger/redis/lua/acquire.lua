-- Acquire: grants one lease, or says when one can be granted. All accounts are charged or none.
-- The same as Kernel::acquire in broker/src/ledger/kernel.rs.
-- op: { lease, shard, amounts, ttl, send_within, only, exclude, common, usage, note }

local function contains(list, item)
  for i = 1, #list do
    if list[i] == item then return true end
  end
  return false
end

-- When all of the accounts can serve, and the one that is in the way longest.
-- `required`: whether limits must be known, that is, have a generation; returns nil if they are not.
local function evaluate(ids, amounts, required, own, all, at, smallest_at, obstacle)
  for i = 1, #ids do
    local account = accounts[ids[i]]
    if account and (not required or account.row[1] > 0) then
      local one_at, one_smallest, cause, exceeds = readiness(account, amounts, own, all)
      if one_smallest > smallest_at then smallest_at = one_smallest end
      if one_at > at then
        at = one_at
        obstacle = { at = at, id = ids[i], cause = cause, exceeds = exceeds }
      end
    elseif required then
      return nil
    end
  end
  return at, smallest_at, obstacle
end

-- When the last ramp began of those of the accounts that last, not before `from`.
local function ramp_of(ids, from)
  for i = 1, #ids do
    local account = accounts[ids[i]]
    if account and account.row[11] + RAMP > now and account.row[11] > from then from = account.row[11] end
  end
  return from
end

-- common_ramp: when the ramp began of the accounts that the request names; 0 if there is none.
local function evaluate_candidate(candidate, amounts, common_ramp)
  local limited, sparse = candidate.row[3], candidate.row[4]
  if not candidate.loaded then
    load_accounts(limited)
    load_accounts(sparse)
    candidate.loaded = true
  end
  local own = ramping and ramp_of(sparse, ramp_of(limited, 0)) or 0
  local at, smallest_at, obstacle = evaluate(limited, amounts, true, own, math.max(own, common_ramp), now, now, nil)
  if not at then return nil end
  return evaluate(sparse, amounts, false, 0, 0, at, smallest_at, obstacle)
end

-- Keeps the obstacle that ends first; among those that never end, a request too large says more
-- than a key that is blocked.
local function earlier(best, obstacle)
  if not best or obstacle.at < best.at then return obstacle end
  if obstacle.at == FOREVER and best.at == FOREVER and obstacle.exceeds and not best.exceeds then return obstacle end
  return best
end

-- Returns parked candidates whose instant has come; how many.
local function promote(shard)
  local promoted = 0
  while promoted < MAX_TRIES do
    local candidate = order_at(shard, shard.parked, 1)
    if not candidate or candidate.score > now then break end
    unpark(shard, candidate)
    promoted = promoted + 1
  end
  return promoted
end

-- Checks parked candidates again, because capacity came back before it was due.
local function rescan(shard)
  local found = {}
  while #found < MAX_TRIES do
    local candidate = order_at(shard, shard.parked, #found + 1)
    if not candidate then break end
    found[#found + 1] = candidate
  end
  for i = 1, #found do
    local _, smallest_at = evaluate_candidate(found[i], SMALLEST, 0)
    if smallest_at and smallest_at <= now then
      unpark(shard, found[i])
    elseif smallest_at and smallest_at ~= found[i].score then
      park(shard, found[i], smallest_at)
    end
  end
  shard.epoch = epoch
  shard.changed = true
end

-- The first candidate in order that can serve; else the obstacle that ends first, if there is one.
-- Third: whether an account is missing.
local function search(shard, op, common_ramp)
  local best, tries, amounts, exclude = nil, 0, op[3], op[7]
  promote(shard)
  while true do
    local position = 1
    while tries < MAX_TRIES do
      local candidate = order_at(shard, shard.ready, position)
      if not candidate then break end
      if #exclude > 0 and contains(exclude, candidate.name) then
        position = position + 1
      else
        tries = tries + 1
        local at, smallest_at, obstacle = evaluate_candidate(candidate, amounts, common_ramp)
        if not at then return nil, nil, true end
        if at <= now then return candidate end
        if smallest_at > now then park(shard, candidate, smallest_at) else position = position + 1 end
        best = earlier(best, obstacle)
      end
    end
    if not (tries < MAX_TRIES and promote(shard) > 0) then
      if shard.epoch == epoch then break end
      rescan(shard)
    end
  end
  -- An instant in the parked order is the earliest that its candidate can be ready: who is parked
  -- for longer than the best found cannot better it.
  local position = 1
  for _ = 1, MAX_TRIES do
    local candidate = order_at(shard, shard.parked, position)
    if not candidate or (best and candidate.score >= best.at) then break end
    if #exclude > 0 and contains(exclude, candidate.name) then
      position = position + 1
    else
      local at, smallest_at, obstacle = evaluate_candidate(candidate, amounts, common_ramp)
      if not at then return nil, nil, true end
      if at <= now then return candidate end
      if smallest_at > candidate.score then park(shard, candidate, smallest_at) else position = position + 1 end
      best = earlier(best, obstacle)
    end
  end
  return nil, best
end

-- The same among the candidates that the request names.
local function search_named(shard, op, common_ramp)
  local only = op[6]
  load_candidates(shard, only)
  local order, seen = {}, {}
  for i = 1, #only do
    local name = only[i]
    local candidate = shard.candidates[name]
    if candidate and not seen[name] and not contains(op[7], name) then
      seen[name] = true
      find_place(shard, candidate)
      if candidate.place then order[#order + 1] = { rank_of(shard, candidate), candidate } end
    end
  end
  table.sort(order, function(a, b) return before(a[1], a[2].name, b[1], b[2].name) end)
  local best
  for i = 1, #order do
    local at, _, obstacle = evaluate_candidate(order[i][2], op[3], common_ramp)
    if not at then return nil, nil, true end
    if at <= now then return order[i][2] end
    best = earlier(best, obstacle)
  end
  return nil, best
end

-- Counts what a lease takes that was granted then.
local function charge(ids, op, granted_at, expires_at)
  local amounts = op[3]
  for i = 1, #ids do
    local account = accounts[ids[i]]
    if account then
      local row = account.row
      local windows = row[8]
      for j = 1, #windows do
        local window = windows[j]
        window_add(window, window_end(window, granted_at, op[5], expires_at), amounts[AMOUNT[window[1]]])
      end
      if row[4] then
        row[5] = expires_at
        row[6] = op[1]
      end
      if row[4] or #windows > 0 then account.dirty = true end
    end
  end
end

-- The ids of the accounts that the request names beside its candidate's; nil if it names one that is not there.
local function common_of(op, commons)
  local ids = {}
  for i = 1, #op[8] do
    local spec = commons[op[8][i] + 1]
    if not spec then return nil end
    ids[i] = spec[1]
  end
  return ids
end

local function acquire(shard, op, commons)
  local common = common_of(op, commons)
  if not shard or not common then return { 2, 0, '', '' } end
  local common_at, _, common_obstacle = evaluate(common, op[3], false, 0, 0, now, now, nil)
  local common_ramp = ramping and ramp_of(common, 0) or 0
  local candidate, obstacle, missing
  if #op[6] == 0 then candidate, obstacle, missing = search(shard, op, common_ramp)
  else candidate, obstacle, missing = search_named(shard, op, common_ramp) end
  if missing then return { 2, 0, '', '' } end
  if not candidate and not obstacle then return { 1, FOREVER, '', 'none' } end
  if candidate and common_at <= now then
    local expires_at = math.floor((now + op[4] + 999) / 1000) * 1000
    local over = ''
    for i = 1, #common do
      local account = accounts[common[i]]
      local window = account and exceeded(account, op[3])
      if window then over = 'over:' .. describe(account, window, false) break end
    end
    charge(candidate.row[3], op, now, expires_at)
    charge(common, op, now, expires_at)
    charge(candidate.row[4], op, now, expires_at)
    advance(shard, candidate, op[3])
    keep_lease(op[1], expires_at + REMEMBER_EXPIRED,
      { 0, candidate.name, now, op[5], expires_at, op[3], common, shard.name, epoch, op[9], op[10], over ~= '', candidate.row[6] })
    return { 0, expires_at, candidate.name, over }
  end
  if candidate or obstacle.at < common_at then obstacle = common_obstacle end
  return { 1, obstacle.at, obstacle.id, describe(accounts[obstacle.id], obstacle.cause, obstacle.exceeds) }
end
