-- The clock of a batch, and the ends of days and months around it.

local day_ends, month_ends = input[3], input[4]
local now = input[2]
if now == 0 then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end
