-- Settle and renew: the end and the extension of a lease.
-- The same as Kernel::settle and Kernel::renew in broker/src/ledger/kernel.rs.

-- The ids of all accounts a held lease touches, and its candidate.
local function accounts_of(shard, row)
  local ids = {}
  local candidate = shard.candidates[row[2]]
  if candidate then
    for i = 1, #candidate.row[3] do ids[#ids + 1] = candidate.row[3][i] end
    for i = 1, #candidate.row[4] do ids[#ids + 1] = candidate.row[4][i] end
  end
  for i = 1, #row[7] do ids[#ids + 1] = row[7][i] end
  return ids, candidate
end

-- Reads what settles and renewals need, in one go for each kind.
local function load_held(shards, settles, renews)
  local ids = {}
  for i = 1, #settles do ids[#ids + 1] = settles[i][1] end
  for i = 1, #renews do ids[#ids + 1] = renews[i][1] end
  load_leases(ids)
  local function each(ops, visit)
    for i = 1, #ops do
      local row, shard = leases[ops[i][1]], shards[ops[i][2] + 1]
      if row and row[1] == 0 and shard and shard.name == row[8] then visit(row, shard) end
    end
  end
  local names = {}
  local function name(row, shard)
    names[shard] = names[shard] or {}
    table.insert(names[shard], row[2])
  end
  each(settles, name)
  each(renews, name)
  for shard, list in pairs(names) do load_candidates(shard, list) end
  local wanted = {}
  local function account(row, shard)
    local found = accounts_of(shard, row)
    for i = 1, #found do wanted[#wanted + 1] = found[i] end
  end
  each(settles, account)
  each(renews, account)
  load_accounts(wanted)
end

-- How much what counts in a window is corrected by.
local function correction(window, op, amount)
  if window[2] == 0 or op[3] == 'r' then return -amount end
  if op[3] == 't' then
    local used = -1
    if window[1] == 'i' then used = op[4] elseif window[1] == 't' then used = op[5] elseif window[1] == 's' then used = op[6] end
    if used >= 0 then return used - amount end
  end
  return 0
end

-- What a settled lease used: what is known of it, else what it was charged.
local function used_by(op, amounts)
  if op[3] == 'r' then return { 1, 0, 0, 0, 0 } end
  local known = op[3] == 't'
  return {
    1, amounts[1],
    known and op[4] >= 0 and op[4] or amounts[2],
    known and op[5] >= 0 and op[5] or amounts[3],
    known and op[6] >= 0 and op[6] or amounts[4],
  }
end

-- op: { lease, shard, charge, input_tokens, total_tokens, spend, clear, blocks, memo, health, learned, outcome }
local function settle(shard, op)
  local row = leases[op[1]]
  if not row then return { 3, '', '', '', false } end
  if row[1] == 1 then return { 2, row[2], row[3], '', false } end
  if not shard or shard.name ~= row[8] then return { 3, '', '', '', false } end
  local granted_at, send_within, expires_at, amounts = row[3], row[4], row[5], row[6]
  local blocks, health, learned = op[8], op[10], op[11]
  local ids, candidate = accounts_of(shard, row)
  -- Whether an account can serve earlier than it could: then an instant in the parked order may be
  -- too late, also where the account stays full.
  local freed, news, begun = false, false, false
  for i = 1, #ids do
    local id = ids[i]
    local role = string.sub(id, 1, 1)
    local account = accounts[id]
    if not account then
      local wanted = (role == 'k' and health ~= 0) or (role == 'q' and #learned > 0)
      for j = 1, #blocks do wanted = wanted or role == blocks[j][1] end
      if wanted then account = account_of(id) end
    end
    if account then
      local before_at = smallest_ready(account)
      lease_ended(account, op[1], granted_at, op[7])
      local windows = account.row[8]
      for j = 1, #windows do
        local window = windows[j]
        local change = row[9] >= window[5] and correction(window, op, amounts[AMOUNT[window[1]]]) or 0
        if change ~= 0 then
          local ends = window_end(window, granted_at, send_within, expires_at)
          if change > 0 then
            window_add(window, ends, change)
          else
            window_subtract(window, ends, -change)
          end
          account.dirty = true
        end
      end
      for j = 1, #blocks do
        if role == blocks[j][1] then block_account(account, granted_at, blocks[j]) end
      end
      if role == 'k' and health ~= 0 then heal(account, health) end
      if role == 'q' then
        for j = 1, #learned do
          local is_news, begins = learn(account.row, learned[j])
          news = news or is_news
          begun = begun or begins
          account.dirty = true
        end
      end
      if smallest_ready(account) < before_at then freed = true end
    end
  end
  record(row, op[12], used_by(op, amounts))
  -- No lease of this epoch was counted in a window that begins now.
  if begun then epoch = epoch + 1 end
  if freed then
    epoch = epoch + 1
    if candidate then
      find_place(shard, candidate)
      if candidate.place == 'p' then unpark(shard, candidate) end
    end
  end
  keep_lease(op[1], now + REMEMBER_SETTLED, { 1, row[2], op[9] })
  return { expires_at <= now and 1 or 0, row[2], '', row[11], news }
end

-- Changes the standing of an account, which must have been read; whether it did.
-- op: { account, action, length, reason }
local function edit(op)
  local account = accounts[op[1]]
  local action, changed = op[2], false
  if action == 'b' then
    block_account(account_of(op[1]), now, { '', { op[3] }, false, true, op[4] })
    changed = true
  elseif account and action == 'f' then
    changed = unlearn(account.row)
    account.dirty = account.dirty or changed
  elseif account then
    changed = unblock(account, action == 'c')
  end
  -- Who was parked may be ready now.
  if changed then epoch = epoch + 1 end
  return changed
end

-- op: { lease, shard, ttl }
local function renew(shard, op)
  local row = leases[op[1]]
  if not row then return { 2, 0 } end
  if row[1] == 1 then return { 1, 0 } end
  if not shard or shard.name ~= row[8] then return { 2, 0 } end
  if row[5] <= now then return { 1, 0 } end
  local old = row[5]
  local till = math.max(old, math.floor((now + op[3] + 999) / 1000) * 1000)
  row[5] = till
  local ids = accounts_of(shard, row)
  for i = 1, #ids do
    local account = accounts[ids[i]]
    if account then
      local windows = account.row[8]
      for j = 1, #windows do
        if windows[j][2] == 0 and row[9] >= windows[j][5] then
          local amount = row[6][AMOUNT[windows[j][1]]]
          window_subtract(windows[j], old, amount)
          window_add(windows[j], till, amount)
          account.dirty = true
        end
      end
      if account.row[4] and account.row[6] == op[1] then
        account.row[5] = till
        account.dirty = true
      end
    end
  end
  keep_lease(op[1], till + REMEMBER_EXPIRED, row)
  return { 0, till }
end
