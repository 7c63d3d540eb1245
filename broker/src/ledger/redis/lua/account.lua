-- Accounts, read once and written once a call. A row is { generation, blocked_until, reason,
-- probing, probe_until, probe_lease, streak, windows, mode, damage, ramp_from, passing, idle_from }; the
-- same as broker/src/ledger/account.rs. In memory an account is { row = row, dirty = changed? }.

local accounts = {} -- by id; false where there is no row
local dropped = {} -- fields of older entries of windows that are gone
local ramping = false -- whether any account that was read has a ramp that lasts

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
  local fields, ended = {}, {}
  for i = 1, #missing do
    if rows[i] then
      local row, id = cmsgpack.unpack(rows[i]), missing[i]
      local windows = row[8]
      for j = 1, #windows do
        local window = windows[j]
        local older = window[9]
        if older > 0 then
          home[window] = id
          if older <= now then
            fields[#fields + 1] = older_field(id, window)
            ended[#ended + 1] = window
          end
        else
          window_forget(window)
        end
      end
      if row[11] + RAMP > now then ramping = true end
      accounts[id] = { row = row, dirty = false }
    end
  end
  if #fields == 0 then return end
  local older = read_many(ACCOUNTS, fields)
  for i = 1, #ended do
    local window = ended[i]
    window[4], window[9] = older[i] .. window[4], 0
    window_forget(window)
  end
end

-- The account of that id, made if there is none; it must have been looked for.
local function account_of(id)
  local account = accounts[id]
  if not account then
    account = { row = { 0, 0, '', false, 0, '', 0, {}, HARD, 0, 0, false, 0 }, dirty = false }
    accounts[id] = account
  end
  return account
end

-- Sets the limits { dimension, span, amount } of a newer or the same generation; what was counted under a
-- (dimension, span) stays, and so does what was learned.
local function set_limits(row, generation, limits, mode, at_epoch)
  if generation < row[1] then return end
  local old, windows = row[8], {}
  for i = 1, #limits do
    local limit = limits[i]
    local window
    for j = 1, #old do
      if old[j][1] == limit[1] and old[j][2] == limit[2] then window = table.remove(old, j) break end
    end
    window = window or new_window(limit[1], limit[2], limit[3], at_epoch)
    window[6] = limit[3]
    settle_limit(window, mode)
    windows[i] = window
  end
  for j = 1, #old do
    if old[j][7] > 0 then
      old[j][6] = UNLIMITED
      settle_limit(old[j], mode)
      windows[#windows + 1] = old[j]
    elseif home[old[j]] then
      dropped[#dropped + 1] = older_field(home[old[j]], old[j])
    end
  end
  row[1], row[8], row[9] = generation, windows, mode
end

-- Brings the limits of an account up to date that a call brings along; it must have been looked for.
-- spec: { id, generation, limits, mode, passing }
local function bring(spec)
  local account = accounts[spec[1]]
  local known = account and account.row[1] or 0
  if known < spec[2] and (known > 0 or #spec[3] > 0) then
    account = account_of(spec[1])
    -- Leases of before were not counted under limits that are new.
    if known > 0 then epoch = epoch + 1 end
    set_limits(account.row, spec[2], spec[3], spec[4], epoch)
    account.row[12] = spec[5]
    account.dirty = true
  end
end

-- Takes in a limit that Google named; whether it was news, and whether a window begins with it.
local function learn(row, limit)
  local windows, window, begins = row[8], nil, false
  for i = 1, #windows do
    if windows[i][1] == limit[1] and windows[i][2] == limit[2] then window = windows[i] break end
  end
  if not window then
    window = new_window(limit[1], limit[2], UNLIMITED, epoch + 1)
    windows[#windows + 1] = window
    begins = true
  end
  local news = window[7] ~= limit[3]
  window[7] = limit[3]
  settle_limit(window, row[9])
  return news, begins
end

-- Forgets the limits that were learned; whether there was one.
local function unlearn(row)
  local changed = false
  for i = 1, #row[8] do
    local window = row[8][i]
    if window[7] > 0 then
      window[7] = 0
      settle_limit(window, row[9])
      changed = true
    end
  end
  return changed
end

-- When the account can serve the amounts, when the smallest request, and what is in the way longest:
-- 'block', 'probe' or a window, and whether the request exceeds it. own: when the ramp of the candidate's own
-- accounts began, which decides for how long it is parked; all: the same of those the request names too.
local function readiness(account, amounts, own, all)
  local row = account.row
  local at, smallest_at, cause, exceeds = now, now, nil, false
  if row[2] > now then
    at, smallest_at, cause = row[2], row[2], 'block'
  end
  if row[4] and row[5] > at then
    at, smallest_at, cause = row[5], row[5], 'probe'
  end
  if row[9] == SOFT then return at, smallest_at, cause, exceeds end
  local windows = row[8]
  for i = 1, #windows do
    local window = windows[i]
    -- Every request has a token at least, also one that does not say how many.
    local amount = amounts[AMOUNT[window[1]]]
    if amount < 1 then amount = 1 end
    if all > 0 or window[8] + amount > window[3] then
      local ready = window_ready_at(window, amount, all)
      if ready > at then
        at, cause, exceeds = ready, window, ready == FOREVER
      end
      ready = window_ready_at(window, 1, own)
      if ready > smallest_at then smallest_at = ready end
    end
  end
  return at, smallest_at, cause, exceeds
end

-- The first soft limit that the amounts would exceed.
local function exceeded(account, amounts)
  local row = account.row
  if row[9] ~= SOFT then return nil end
  for i = 1, #row[8] do
    local window = row[8][i]
    if window[8] + amounts[AMOUNT[window[1]]] > window[3] then return window end
  end
end

-- A cause in words, as a refusal says it.
local function describe(account, cause, exceeds)
  if cause == 'block' then return 'block:' .. account.row[3] end
  if cause == 'probe' then return 'probe' end
  return (exceeds and 'exceeds:' or '') .. cause[1] .. string.format('%d', cause[2])
end

-- When the smallest request can be served.
local function smallest_ready(account)
  local _, smallest_at = readiness(account, SMALLEST, 0, 0)
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
    -- What happens for another reason is not the same thing happening again.
    if row[3] ~= block[5] then row[7] = 0 end
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
  -- A step of nothing only counts: something is done about it when it happens again.
  if block[4] and till > now then
    row[11] = 0
    row[4] = true
    row[5] = 0
    row[6] = ''
  end
  account.dirty = true
end

-- Ends the block; with `ramp` because a check went well. Whether there was anything to end.
local function unblock(account, ramp)
  local row = account.row
  if row[2] <= now and not row[4] and row[7] == 0 and row[11] + RAMP <= now then return false end
  row[2], row[3], row[4], row[5], row[6], row[7] = 0, '', false, 0, '', 0
  row[11] = ramp and now or 0
  if ramp then ramping = true end
  account.dirty = true
  return true
end

-- Changes the health, within its bounds.
local function heal(account, by)
  local damage = math.min(math.max(account.row[10] - by, 0), FULL_HEALTH)
  if damage ~= account.row[10] then
    account.row[10] = damage
    account.dirty = true
  end
end

-- Takes in that a lease ended: as the probe it ends or repeats the probing, and a success of a
-- lease granted after the last block ends the count of blocks in a row.
local function lease_ended(account, lease, granted_at, success)
  local row = account.row
  if row[4] and row[6] == lease then
    row[4] = not success
    if success then
      row[11] = now
      ramping = true
    end
    row[5] = 0
    row[6] = ''
    account.dirty = true
  end
  if success and row[7] > 0 and granted_at >= row[2] then
    row[7] = 0
    account.dirty = true
  end
end

-- Writes what changed. Accounts that no catalogue gave limits to lose their row when they hold nothing any
-- more.
local function save_accounts()
  local set, gone, idle = {}, dropped, {}
  for id, account in pairs(accounts) do
    if account and account.dirty then
      local row = account.row
      local windows = row[8]
      if row[1] == 0 and #windows == 0 and row[2] <= now and not row[4] and row[7] == 0 and row[10] == 0
        and row[11] + RAMP <= now then
        gone[#gone + 1] = id
      else
        if row[12] then
          local till = math.max(row[2], row[5], row[11] > 0 and row[11] + RAMP or 0)
          for i = 1, #windows do till = math.max(till, window_counts_until(windows[i])) end
          row[13] = till
          idle[#idle + 1] = till
          idle[#idle + 1] = id
        else
          -- A passing account goes without being read: it has no other fields.
          for i = 1, #windows do window_part(id, windows[i], set, gone) end
        end
        set[#set + 1] = id
        set[#set + 1] = cmsgpack.pack(row)
      end
    end
  end
  call_many('HSET', ACCOUNTS, set)
  call_many('HDEL', ACCOUNTS, gone)
  call_many('ZADD', IDLE, idle)
end

-- Forgets passing accounts of which all has ended, at most `at_most`.
local function forget_idle(at_most)
  local over = redis.call('ZRANGEBYSCORE', IDLE, '-inf', now, 'LIMIT', 0, at_most)
  call_many('HDEL', ACCOUNTS, over)
  call_many('ZREM', IDLE, over)
end
