-- Beat: a broker says that it is there, and is told how the ledger stands.
--
-- KEYS: meta, brokers. ARGV: [1] ledger id, [2] the run of the server, [3] the broker, [4] how many replicas are
--       there, [5] how many are left by those who decide it, or -1 if that was not asked.
-- Returns { now, acks, broker, last beat, broker, ... }. Errors: CHANGED, RUN.
-- A broker is remembered for BROKER_LIFETIME after its last beat.

local meta = redis.call('HMGET', KEYS[1], 'id', 'run', 'acks', 'now')
if meta[1] ~= ARGV[1] then return redis.error_reply('CHANGED ' .. (meta[1] or 'none')) end
if meta[2] ~= ARGV[2] then return redis.error_reply('RUN ' .. (meta[2] or 'none')) end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local seen = tonumber(meta[4]) or 0
if seen - now > CLOCK_STANDS then
  -- It was set back and is followed for good; else it would seem to jump once it comes near what was seen.
  redis.call('HSET', KEYS[1], 'now', string.format('%d', now))
else
  now = math.max(now, seen)
end

-- As soon as a replica is there it has to acknowledge; it is let off only by those who could promote it.
local acks, there, left = tonumber(meta[3]) or 0, tonumber(ARGV[4]), tonumber(ARGV[5])
if left >= 0 then acks = math.min(acks, left) end
-- A replica that is frozen seems to be there; those who could promote it know better.
acks = math.max(acks, left >= 0 and math.min(there, left) or there)
redis.call('HSET', KEYS[1], 'acks', acks, 'beat', string.format('%d', now))
redis.call('HDEL', KEYS[1], 'closed')
redis.call('ZADD', KEYS[2], now, ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now - BROKER_LIFETIME)
local answer = { string.format('%d', now), string.format('%d', acks) }
for _, item in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1, 'WITHSCORES')) do answer[#answer + 1] = item end
return answer
