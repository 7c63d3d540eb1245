-- The clock of a batch, and the ends of days and months around it.

local day_ends, month_ends = input[3], input[4]
local now = input[2]
local driven = now ~= 0
if not driven then
  local time = redis.call('TIME')
  now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Nothing if the calendar covers the time, else the error.
local function outside_calendar()
  if #day_ends >= 2 and #month_ends >= 1 and day_ends[1] <= now and day_ends[#day_ends - 1] > now and month_ends[1] <= now and month_ends[#month_ends] > now then
    return nil
  end
  return redis.error_reply('CLOCK the calendar of the call does not cover the time of Redis')
end

-- The time, which does not run backwards: it stands still until it is later than `seen`. A clock that was set back
-- by more than that is followed: what was counted then lasts the longer.
local function not_before(seen)
  if not driven and seen - now > CLOCK_STANDS then return now end
  return math.max(now, seen)
end
