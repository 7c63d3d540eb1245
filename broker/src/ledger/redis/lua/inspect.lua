-- Inspect: reads accounts as they stand.
--
-- KEYS: meta, accounts. ARGV: [1] clock (milliseconds; 0 for Redis' own), then ids of accounts.
-- Returns now, then a row or nothing for each, with the entries of windows as lists of numbers.

-- The row as broker/src/ledger/account.rs reads it.
local function readable(id, packed)
  local row = cmsgpack.unpack(packed)
  for _, window in ipairs(row[8]) do
    local entries, list = window[4], {}
    if window[9] > 0 then entries = redis.call('HGET', KEYS[2], older_field(id, window)) .. entries end
    for first = 1, #entries, 16 do
      list[#list + 1], list[#list + 2] = entry_at(entries, first)
    end
    if window[10] > 0 then
      list[#list + 1], list[#list + 2] = window[10], window[11]
    end
    window[4] = list
    for i = 11, 8, -1 do window[i] = nil end
  end
  return cmsgpack.pack(row)
end

local now = tonumber(ARGV[1])
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
now = math.max(now, tonumber(redis.call('HGET', KEYS[1], 'now')) or 0)
local answer = { string.format('%d', now) }
for first = 2, #ARGV, 4000 do
  local rows = redis.call('HMGET', KEYS[2], unpack(ARGV, first, math.min(first + 3999, #ARGV)))
  for i = 1, #rows do answer[#answer + 1] = rows[i] and readable(ARGV[first + i - 1], rows[i]) end
end
return answer
