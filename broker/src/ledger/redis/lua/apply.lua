-- Apply: writes limits of accounts and a piece of a shard's candidates. Counts, blocks and the
-- order of candidates that are there already stay.
--
-- KEYS: meta, accounts, leases, forget, candidates, ready, parked.
-- ARGV: [1] a MessagePack array: ledger id, generation, shard, accounts { id, { { dimension, span,
--       limit } } }, candidates { name, class, step, limited, sparse }, classes, last piece?,
--       lifetime of the shard in milliseconds.
-- Returns OK. Error: CHANGED. A shard is leased from only after its last piece.

local META, ACCOUNTS, ROWS, READY, PARKED = KEYS[1], KEYS[2], KEYS[5], KEYS[6], KEYS[7]
local input = cmsgpack.unpack(ARGV[1])
local generation, shard, lifetime = input[2], input[3], input[8]

local meta = redis.call('HMGET', META, 'id', 's:' .. shard)
if meta[1] ~= input[1] then return redis.error_reply('CHANGED ' .. (meta[1] or 'none')) end

-- A raised limit may free who is parked.
local epoch = redis.call('HINCRBY', META, 'epoch', 1)

for _, account in ipairs(input[4]) do
  local stored = redis.call('HGET', ACCOUNTS, account[1])
  local row = stored and cmsgpack.unpack(stored) or { 0, 0, '', false, 0, '', 0, {} }
  if generation >= row[1] then
    local windows = {}
    for i, limit in ipairs(account[2]) do
      windows[i] = { limit[1], limit[2], limit[3], '', epoch, 0 }
      for _, old in ipairs(row[8]) do
        if old[1] == limit[1] and old[2] == limit[2] then
          windows[i][4], windows[i][5], windows[i][6] = old[4], old[5], old[6]
        end
      end
    end
    row[1], row[8] = generation, windows
    redis.call('HSET', ACCOUNTS, account[1], cmsgpack.pack(row))
  end
end

for _, candidate in ipairs(input[5]) do
  local name, class = candidate[1], candidate[2]
  local rank = class * CLASS_SPAN
  if redis.call('HSETNX', ROWS, name, cmsgpack.pack({ class, candidate[3], candidate[4], candidate[5], rank })) == 1 then
    redis.call('ZADD', READY, rank, name)
    redis.call('ZREM', PARKED, name)
  end
end

if input[7] and not meta[2] then
  local times = {}
  for class = 1, input[6] do times[class] = 0 end
  redis.call('HSET', META, 's:' .. shard, cmsgpack.pack({ epoch, times }))
end
redis.call('PEXPIRE', ROWS, lifetime)
redis.call('PEXPIRE', READY, lifetime)
redis.call('PEXPIRE', PARKED, lifetime)
return redis.status_reply('OK')
