-- Entries of windows, as text: 16 bytes for each, its end and its amount as doubles.

-- The end and the amount of the entry that begins at a byte.
local function entry_at(entries, first)
  local ends, amount = struct.unpack('>dd', entries, first)
  return ends, amount
end

local function entry(ends, amount)
  return struct.pack('>dd', ends, amount)
end

-- The field of the accounts that holds the older entries of a window.
local function older_field(id, window)
  return id .. USAGE_MARK .. window[1] .. window[2]
end
