-- Recover: brokers agree when a server that was restarted or promoted may grant leases.
--
-- KEYS: meta, brokers, recovery. ARGV: [1] ledger id, [2] the run of the server, [3] the broker, [4] how often it
--       has replayed its journal (0 to 2), [5] since when it has watched the ledger, [6] the latest instant it has
--       seen, [7] the latest instant of which it may lack something, 0 if it lacks nothing, [8] since when the server
--       runs, in milliseconds until now, [9] how long trailing windows last, [10] when days and months have ended in
--       which leases count, [11] from when on leases count in them, [12] how many replicas are there, [13] the
--       catalogue's digest, [14] its generation, [15] 1 if the server writes an append-only file, then brokers it has
--       seen and when.
-- Returns { 'blessed' }, or { 'waiting', from when something may be lost, how often all have replayed, until when
-- it waits at most }. Error: CHANGED. Instants are in milliseconds by the server's clock.
-- The recovery's own state goes when it ends, or after RECOVERY_LIFETIME.

local META, BROKERS, RECOVERY = KEYS[1], KEYS[2], KEYS[3]
local id, run, broker, replayed = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local watched_from, last_seen, cut = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local uptime, trailing, calendar, calendar_from = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), tonumber(ARGV[11])
local replicas, digest, generation, appends = tonumber(ARGV[12]), ARGV[13], tonumber(ARGV[14]), ARGV[15] == '1'

local meta = redis.call('HMGET', META, 'id', 'run', 'now', 'closed', 'acks', 'beat', 'generation')
if meta[1] and meta[1] ~= id then return redis.error_reply('CHANGED ' .. meta[1]) end
if meta[1] and meta[2] == run then return { 'blessed' } end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- The first to come in this run finds what the server has kept; a ledger that is gone is made anew.
if redis.call('HGET', RECOVERY, 'run') ~= run then
  redis.call('DEL', RECOVERY)
  local kept_until = meta[1] and math.max(tonumber(meta[3]) or 0, tonumber(meta[6]) or 0) or 0
  redis.call('HSET', RECOVERY, 'run', run, 'since', now, 'kept_until', kept_until)
  if not meta[1] then redis.call('HSET', META, 'id', id) end
  for _, other in ipairs(redis.call('ZRANGEBYSCORE', BROKERS, kept_until - BROKER_SILENT, '+inf')) do
    -- All that one did that has left is in what is kept.
    if not has_left(other) then redis.call('HSET', RECOVERY, 'b:' .. other, 0) end
  end
end
if generation > (tonumber(meta[7]) or 0) then redis.call('HSET', META, 'generation', generation, 'digest', digest) end

-- What all brokers know together.
local known = redis.call('HMGET', RECOVERY, 'since', 'kept_until', 'cut', 'last_seen', 'trailing', 'calendar', 'watched_from', 'calendar_from', 'accepted')
local function most(index, value) return math.max(tonumber(known[index]) or 0, value) end
local function least(index, value) return math.min(tonumber(known[index]) or FOREVER, value) end
local since, kept_until = tonumber(known[1]), tonumber(known[2])
cut, last_seen, trailing, calendar = most(3, cut), most(4, last_seen), most(5, trailing), most(6, calendar)
watched_from, calendar_from = least(7, watched_from), least(8, calendar_from)
local function whole(number) return string.format('%d', number) end
redis.call('HSET', RECOVERY, 'cut', whole(cut), 'last_seen', whole(last_seen), 'trailing', whole(trailing),
  'calendar', whole(calendar), 'watched_from', whole(watched_from), 'calendar_from', whole(calendar_from),
  'b:' .. broker, replayed)
redis.call('PEXPIRE', RECOVERY, RECOVERY_LIFETIME)

-- From when on something is missing that still counts.
local missing_from = math.max(kept_until, math.min(now - trailing, calendar_from))
for i = 16, #ARGV, 2 do
  local other, heard = ARGV[i], tonumber(ARGV[i + 1])
  local kept = has_left(other) and heard <= kept_until
  if heard >= missing_from - BROKER_SILENT and not kept then redis.call('HSETNX', RECOVERY, 'b:' .. other, 0) end
end
local fewest = replayed
local rows = redis.call('HGETALL', RECOVERY)
for i = 1, #rows, 2 do
  if string.sub(rows[i], 1, 2) == 'b:' then fewest = math.min(fewest, tonumber(rows[i + 1])) end
end
-- Brokers that were silent for long are not known any more, and so may lack something.
local watched = watched_from <= missing_from and missing_from > now - BROKER_LIFETIME
local remembered = watched and cut <= missing_from

-- Until when a recovery lasts that cannot be completed by replaying.
if known[9] then calendar = 0 end -- an operator accepts that counts of days and months are lost
local ends = math.max(since + trailing, calendar)
if kept_until > 0 then
  local recent = last_seen - kept_until <= OLD_DATA
  if meta[4] and last_seen <= kept_until then
    ends = since -- the last broker left in order, and nobody came since
  elseif watched and recent and (tonumber(meta[5]) or 0) > 0 then
    ends = since + 2 * RECOVERY_GRACE -- whatever was handed out was acknowledged by this server's data
  elseif appends and recent then
    ends = watched and since + trailing or now - uptime + trailing -- at most a moment is missing
  end
end
-- Who is not known yet comes within the grace.
if now >= since + RECOVERY_GRACE and (remembered and fewest >= 2 or now >= ends) then
  redis.call('HSET', META, 'run', run, 'acks', replicas)
  redis.call('DEL', RECOVERY)
  return { 'blessed' }
end
return { 'waiting', whole(kept_until), fewest, whole(ends) }
