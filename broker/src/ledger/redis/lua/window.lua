-- Windows: { dimension, span, limit, { end, amount, end, amount, ... }, since }, ends ascending.
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

-- How much of a request counts in a window.
local function window_amount(window, permits, tokens)
  local dimension = window[1]
  if dimension == 'r' or dimension == 'f' then return permits end
  return tokens
end

-- Forgets what has ended and returns what is used.
local function window_load(window)
  local entries, used, live = window[4], 0, 0
  for i = 1, #entries, 2 do
    if entries[i] > now then
      used = used + entries[i + 1]
      if live == 0 then live = i end
    end
  end
  if live > 1 then
    local kept = {}
    for i = live, #entries do kept[i - live + 1] = entries[i] end
    window[4] = kept
  elseif live == 0 and #entries > 0 then
    window[4] = {}
  end
  return used
end

-- The earliest instant at which `amount` fits, where `used` is used now.
local function window_ready_at(window, used, amount)
  local limit = window[3]
  if amount <= 0 then return now end
  if amount > limit then return FOREVER end
  local excess, at = used + amount - limit, now
  local entries, i = window[4], 1
  while excess > 0 and i < #entries do
    at = entries[i]
    excess = excess - entries[i + 1]
    i = i + 2
  end
  return at
end

-- Counts `amount` until `ends`; returns by how much the use grew.
local function window_add(window, ends, amount)
  if amount <= 0 or ends <= now then return 0 end
  local entries = window[4]
  local at = #entries
  while at > 0 and entries[at - 1] > ends do at = at - 2 end
  if at > 0 and entries[at - 1] == ends then
    entries[at] = entries[at] + amount
  else
    table.insert(entries, at + 1, ends)
    table.insert(entries, at + 2, amount)
  end
  return amount
end

-- Takes `amount` back from what counts until `ends`; returns by how much the use fell.
local function window_subtract(window, ends, amount)
  local entries = window[4]
  for i = 1, #entries, 2 do
    if entries[i] == ends then
      local taken = math.min(amount, entries[i + 1])
      entries[i + 1] = entries[i + 1] - taken
      if entries[i + 1] <= 0 then
        table.remove(entries, i)
        table.remove(entries, i)
      end
      return taken
    end
  end
  return 0
end
