-- Windows: { dimension, span, limit, entries, since, used }. Entries are one string, 16 bytes for each:
-- end and amount as doubles, ends ascending; a full window is then neither unpacked nor packed again.
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

-- The end and the amount of the entry that begins at a byte.
local function entry_at(entries, first)
  local ends, amount = struct.unpack('>dd', entries, first)
  return ends, amount
end

-- Forgets what has ended; what is left is what is used.
local function window_forget(window)
  local entries, first = window[4], 1
  while first < #entries do
    local ends, amount = entry_at(entries, first)
    if ends > now then break end
    window[6] = window[6] - amount
    first = first + 16
  end
  if first > 1 then window[4] = string.sub(entries, first) end
end

-- The earliest instant at which `amount` fits.
local function window_ready_at(window, amount)
  local limit = window[3]
  if amount <= 0 then return now end
  if amount > limit then return FOREVER end
  local excess, at = window[6] + amount - limit, now
  local entries, first = window[4], 1
  while excess > 0 and first < #entries do
    local ends, freed = entry_at(entries, first)
    at = ends
    excess = excess - freed
    first = first + 16
  end
  return at
end

-- Counts `amount` until `ends`.
local function window_add(window, ends, amount)
  if amount <= 0 or ends <= now then return end
  local entries = window[4]
  local first = #entries - 15
  local known, counted
  while first > 0 do
    known, counted = entry_at(entries, first)
    if known <= ends then break end
    first = first - 16
  end
  window[6] = window[6] + amount
  if first > 0 and known == ends then
    window[4] = string.sub(entries, 1, first + 7) .. struct.pack('>d', counted + amount) .. string.sub(entries, first + 16)
  elseif first + 15 == #entries then
    window[4] = entries .. struct.pack('>dd', ends, amount)
  else
    window[4] = string.sub(entries, 1, first + 15) .. struct.pack('>dd', ends, amount) .. string.sub(entries, first + 16)
  end
end

-- Takes `amount` back from what counts until `ends`, never below nothing.
local function window_subtract(window, ends, amount)
  local entries = window[4]
  for first = #entries - 15, 1, -16 do
    local known, counted = entry_at(entries, first)
    if known == ends then
      local left = math.max(counted - amount, 0)
      window[6] = window[6] - (counted - left)
      local kept = left > 0 and struct.pack('>dd', ends, left) or ''
      window[4] = string.sub(entries, 1, first - 1) .. kept .. string.sub(entries, first + 16)
      return
    elseif known < ends then
      return
    end
  end
end
