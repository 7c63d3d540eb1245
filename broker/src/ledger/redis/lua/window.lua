-- Windows: { dimension, span, limit, entries, since, configured, learned, used }. Entries are one string,
-- 16 bytes for each: end and amount as doubles, ends ascending; a full window is then neither unpacked nor
-- packed again. What a call adds last is kept apart as two numbers, tail_ends and tail_amount, until it is
-- written: the leases of one call mostly end at the same instant.
-- The same as broker/src/ledger/window.rs, where the meaning of each field is written down.

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

-- The end and the amount of the entry that begins at a byte.
local function entry_at(entries, first)
  local ends, amount = struct.unpack('>dd', entries, first)
  return ends, amount
end

-- Puts what was kept apart into the entries.
local function window_close(window)
  if window.tail_ends then
    window[4] = window[4] .. struct.pack('>dd', window.tail_ends, window.tail_amount)
    -- A table with names in it would not be packed as a list.
    window.tail_ends, window.tail_amount = nil, nil
  end
end

-- Forgets what has ended; what is left is what is used.
local function window_forget(window)
  local entries, first = window[4], 1
  while first < #entries do
    local ends, amount = entry_at(entries, first)
    if ends > now then break end
    window[8] = window[8] - amount
    first = first + 16
  end
  if first > 1 then window[4] = string.sub(entries, first) end
end

-- The earliest instant, not before `from`, at which `amount` fits under a limit that is not smaller.
local function window_fits_at(window, from, amount, limit)
  local excess, at = window[8] + amount - limit, from
  if excess <= 0 then return at end
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
  window_close(window)
  local entries = window[4]
  if #entries == 0 then return 0 end
  return (entry_at(entries, #entries - 15))
end

-- Counts `amount` until `ends`.
local function window_add(window, ends, amount)
  if amount <= 0 or ends <= now then return end
  window[8] = window[8] + amount
  if window.tail_ends == ends then
    window.tail_amount = window.tail_amount + amount
    return
  end
  window_close(window)
  local entries = window[4]
  local first = #entries - 15
  local known, counted
  while first > 0 do
    known, counted = entry_at(entries, first)
    if known <= ends then break end
    first = first - 16
  end
  if first > 0 and known == ends then
    if first + 15 == #entries then
      window[4] = string.sub(entries, 1, first - 1)
      window.tail_ends, window.tail_amount = ends, counted + amount
    else
      window[4] = string.sub(entries, 1, first + 7) .. struct.pack('>d', counted + amount) .. string.sub(entries, first + 16)
    end
  elseif first + 15 == #entries then
    window.tail_ends, window.tail_amount = ends, amount
  else
    window[4] = string.sub(entries, 1, first + 15) .. struct.pack('>dd', ends, amount) .. string.sub(entries, first + 16)
  end
end

-- Takes `amount` back from what counts until `ends`, never below nothing.
local function window_subtract(window, ends, amount)
  window_close(window)
  local entries = window[4]
  for first = #entries - 15, 1, -16 do
    local known, counted = entry_at(entries, first)
    if known == ends then
      local left = math.max(counted - amount, 0)
      window[8] = window[8] - (counted - left)
      local kept = left > 0 and struct.pack('>dd', ends, left) or ''
      window[4] = string.sub(entries, 1, first - 1) .. kept .. string.sub(entries, first + 16)
      return
    elseif known < ends then
      return
    end
  end
end
