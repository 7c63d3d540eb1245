-- Windows: { dimension, span, limit, entries, since, configured, learned, used, older, last_ends, last_amount }.
-- What counts lies in three places, ends ascending: the older entries, in a field of their own, of which
-- `older` is when the first one ends, 0 if there are none; the entries; and the last one as two numbers, 0 if
-- there is none. So that a call moves few bytes however full a window is: the leases of one moment end at one
-- instant, which is the last, and the older entries are read when the first of them ends.
-- The same as broker/src/ledger/window.rs, where the meaning of each other field is written down.

-- The first of the ascending instants that lies after `at`.
local function first_after(ends, at)
  for i = 1, #ends do
    if ends[i] > at then return ends[i] end
  end
  return FOREVER
end

-- When a charge ends.
local function window_end(window, granted_at, send_within, expires_at)
  local span = window[2]
  if span > 0 then
    local width = math.floor((span + SUB_BUCKETS - 1) / SUB_BUCKETS)
    return (math.floor(granted_at / width) + 1) * width + span + send_within
  elseif span == 0 then
    return expires_at
  elseif span == -1 then
    return first_after(day_ends, granted_at + send_within)
  end
  return first_after(month_ends, granted_at + send_within)
end

-- Sets the limit anew from what was configured and learned.
local function settle_limit(window, mode)
  local configured, learned = window[6], window[7]
  if learned == 0 then window[3] = configured
  elseif mode == LEARNING then window[3] = learned
  else window[3] = math.min(configured, learned) end
end

-- Where the amounts of a request { permits, input, total, spend } stand by dimension.
local AMOUNT = { r = 1, f = 1, i = 2, t = 3, s = 4 }
local SMALLEST = { 1, 1, 1, 1 }

local home = {} -- by window of which older entries are stored: the id of its account

-- A window of which nothing is counted yet.
local function new_window(dimension, span, limit, at_epoch)
  return { dimension, span, limit, '', at_epoch, limit, 0, 0, 0, 0, 0 }
end

-- Puts the older entries before the others.
local function window_gather(window)
  if window[9] > 0 then
    window[4] = redis.call('HGET', ACCOUNTS, older_field(home[window], window)) .. window[4]
    window[9] = 0
  end
end

-- The same if an entry that ends then may stand among the older ones.
local function window_reach(window, ends)
  if window[9] > 0 and (window[4] == '' or entry_at(window[4], 1) > ends) then window_gather(window) end
end

-- Puts the last entry behind the others.
local function window_close(window)
  if window[10] > 0 then
    window[4] = window[4] .. entry(window[10], window[11])
    window[10], window[11] = 0, 0
  end
end

-- Forgets what has ended; what is left is what is used. The older entries must have been gathered if
-- the first of them has ended.
local function window_forget(window)
  if window[9] > 0 then return end
  local entries, first = window[4], 1
  while first < #entries do
    local ends, amount = entry_at(entries, first)
    if ends > now then break end
    window[8] = window[8] - amount
    first = first + 16
  end
  if first > 1 then window[4] = string.sub(entries, first) end
  if window[10] > 0 and window[10] <= now then
    window[8] = window[8] - window[11]
    window[10], window[11] = 0, 0
  end
end

-- The earliest instant, not before `from`, at which `amount` fits under a limit that is not smaller.
local function window_fits_at(window, from, amount, limit)
  local excess, at = window[8] + amount - limit, from
  if excess <= 0 then return at end
  window_gather(window)
  window_close(window)
  local entries, first = window[4], 1
  while excess > 0 and first < #entries do
    local ends, freed = entry_at(entries, first)
    if ends > from then at = ends end
    excess = excess - freed
    first = first + 16
  end
  return at
end

-- The earliest instant at which `amount` fits, for a candidate whose ramp began at `ramp_from`, 0 if there is none.
local function window_ready_at(window, amount, ramp_from)
  local limit = window[3]
  if amount <= 0 then return now end
  if amount > limit then return FOREVER end
  local from = now
  if ramp_from > 0 and window[2] > 0 then
    for stage = 1, 2 do
      local ends, open = ramp_from + stage * RAMP_STAGE, math.floor((limit + (stage == 1 and 3 or 1)) / (stage == 1 and 4 or 2))
      if ends > from then
        if amount <= open then
          local at = window_fits_at(window, from, amount, open)
          if at < ends then return at end
        end
        from = ends
      end
    end
  end
  return window_fits_at(window, from, amount, limit)
end

-- When the last of what counts ends.
local function window_counts_until(window)
  if window[10] > 0 then return window[10] end
  window_gather(window)
  local entries = window[4]
  if entries == '' then return 0 end
  return (entry_at(entries, #entries - 15))
end

-- Counts `amount` until `ends`.
local function window_add(window, ends, amount)
  if amount <= 0 or ends <= now then return end
  window[8] = window[8] + amount
  if window[10] == ends then
    window[11] = window[11] + amount
    return
  end
  window_close(window)
  window_reach(window, ends)
  local entries = window[4]
  local first = #entries - 15
  local known, counted
  while first > 0 do
    known, counted = entry_at(entries, first)
    if known <= ends then break end
    first = first - 16
  end
  if first > 0 and known == ends then
    window[4] = string.sub(entries, 1, first - 1) .. entry(ends, counted + amount) .. string.sub(entries, first + 16)
  elseif first + 15 == #entries then
    window[10], window[11] = ends, amount
  else
    window[4] = string.sub(entries, 1, first + 15) .. entry(ends, amount) .. string.sub(entries, first + 16)
  end
end

-- Takes `amount` back from what counts until `ends`, never below nothing.
local function window_subtract(window, ends, amount)
  if window[10] == ends then
    local left = math.max(window[11] - amount, 0)
    window[8] = window[8] - (window[11] - left)
    window[10], window[11] = left > 0 and ends or 0, left
    return
  end
  window_reach(window, ends)
  local entries = window[4]
  for first = #entries - 15, 1, -16 do
    local known, counted = entry_at(entries, first)
    if known == ends then
      local left = math.max(counted - amount, 0)
      window[8] = window[8] - (counted - left)
      local kept = left > 0 and entry(ends, left) or ''
      window[4] = string.sub(entries, 1, first - 1) .. kept .. string.sub(entries, first + 16)
      return
    elseif known < ends then
      return
    end
  end
end

-- Stores the older entries of a full window apart, or forgets that there were any: fields to write and to delete.
local function window_part(id, window, set, gone)
  if #window[4] > ENTRIES_TOGETHER then
    window_gather(window)
    local older = #window[4] - ENTRIES_RECENT
    set[#set + 1] = older_field(id, window)
    set[#set + 1] = string.sub(window[4], 1, older)
    window[9] = (entry_at(window[4], 1))
    window[4] = string.sub(window[4], older + 1)
  elseif window[9] == 0 and home[window] then
    gone[#gone + 1] = older_field(id, window)
  end
end
