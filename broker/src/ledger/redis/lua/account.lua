-- Accounts, read once and written once a call. A row is { generation, blocked_until, reason,
-- probing, probe_until, probe_lease, streak, windows }; the same as broker/src/ledger/account.rs.
-- In memory an account is { row = row, dirty = changed? }.

local accounts = {} -- by id; false where there is no row

-- Reads the rows of those ids that were not read yet.
local function load_accounts(ids)
  local missing = {}
  for i = 1, #ids do
    if accounts[ids[i]] == nil then
      accounts[ids[i]] = false
      missing[#missing + 1] = ids[i]
    end
  end
  if #missing == 0 then return end
  local rows = read_many(ACCOUNTS, missing)
  for i = 1, #missing do
    if rows[i] then
      local row = cmsgpack.unpack(rows[i])
      local windows = row[8]
      for j = 1, #windows do window_forget(windows[j]) end
      accounts[missing[i]] = { row = row, dirty = false }
    end
  end
end

-- When the account can serve the request, when the smallest one, and what is in the way longest:
-- 'block', 'probe' or a window, and whether the request exceeds it.
local function readiness(account, permits, tokens)
  local row = account.row
  local at, smallest_at, cause, exceeds = now, now, nil, false
  if row[2] > now then
    at, smallest_at, cause = row[2], row[2], 'block'
  end
  if row[4] and row[5] > at then
    at, smallest_at, cause = row[5], row[5], 'probe'
  end
  local windows = row[8]
  -- Every request has a token at least, also one that does not say how many.
  if tokens < 1 then tokens = 1 end
  for i = 1, #windows do
    local window = windows[i]
    local limit, used = window[3], window[6]
    local amount = window_amount(window, permits, tokens)
    if used + amount > limit then
      local ready = window_ready_at(window, amount)
      if ready > at then
        at, cause, exceeds = ready, window, ready == FOREVER
      end
      ready = window_ready_at(window, 1)
      if ready > smallest_at then smallest_at = ready end
    elseif used + 1 > limit then
      local ready = window_ready_at(window, 1)
      if ready > smallest_at then smallest_at = ready end
    end
  end
  return at, smallest_at, cause, exceeds
end

-- A cause in words, as a refusal says it.
local function describe(account, cause, exceeds)
  if cause == 'block' then return 'block:' .. account.row[3] end
  if cause == 'probe' then return 'probe' end
  return (exceeds and 'exceeds:' or '') .. cause[1] .. string.format('%d', cause[2])
end

-- When the smallest request can be served.
local function smallest_ready(account)
  local _, smallest_at = readiness(account, 1, 1)
  return smallest_at
end

-- Blocks an account because of a lease granted at `granted_at`; only ever lengthens.
-- block: { role, steps, until_day_end, probe, reason }
local function block_account(account, granted_at, block)
  local row, steps = account.row, block[2]
  local step = 0
  if #steps == 1 then
    step = steps[1]
  elseif #steps > 1 then
    -- Requests that were under way when the block was set say nothing new.
    if row[7] == 0 or granted_at >= row[2] then row[7] = row[7] + 1 end
    step = steps[math.min(math.max(row[7], 1), #steps)]
  end
  local till = math.min(now + step, FOREVER)
  if block[3] then till = math.max(till, first_after(day_ends, granted_at)) end
  if till > row[2] then
    row[2] = till
    row[3] = block[5]
  end
  if block[4] then
    row[4] = true
    row[5] = 0
    row[6] = ''
  end
  account.dirty = true
end

-- Takes in that a lease ended: as the probe it ends or repeats the probing, and a success of a
-- lease granted after the last block ends the count of blocks in a row.
local function lease_ended(account, lease, granted_at, success)
  local row = account.row
  if row[4] and row[6] == lease then
    row[4] = not success
    row[5] = 0
    row[6] = ''
    account.dirty = true
  end
  if success and row[7] > 0 and granted_at >= row[2] then
    row[7] = 0
    account.dirty = true
  end
end

-- Writes what changed. Accounts that no catalogue gave limits to lose their row when they hold
-- nothing any more.
local function save_accounts()
  local set, gone = {}, {}
  for id, account in pairs(accounts) do
    if account and account.dirty then
      local row = account.row
      if row[1] == 0 and row[2] <= now and not row[4] and row[7] == 0 then
        gone[#gone + 1] = id
      else
        set[#set + 1] = id
        set[#set + 1] = cmsgpack.pack(row)
      end
    end
  end
  call_many('HSET', ACCOUNTS, set)
  call_many('HDEL', ACCOUNTS, gone)
end
