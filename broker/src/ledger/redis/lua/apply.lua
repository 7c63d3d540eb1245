-- Apply: writes limits of accounts and a piece of a shard's candidates. Counts, blocks and the
-- order of candidates that are there already stay.
--
-- KEYS: meta, accounts, leases, forget, idle, candidates, ready, parked.
-- ARGV: [1] a MessagePack array: ledger id, generation, shard, accounts { id, { { dimension, span,
--       limit } }, mode }, candidates { name, class, step, limited, sparse, tag }, classes, last piece?,
--       lifetime of the shard in milliseconds, order.
-- Returns OK. Error: CHANGED. A shard is leased from only after its last piece.

local ROWS, READY, PARKED = KEYS[POOL_KEYS + 1], KEYS[POOL_KEYS + 2], KEYS[POOL_KEYS + 3]
local generation, shard, lifetime = input[2], input[3], input[8]

local meta = redis.call('HMGET', META, 'id', 's:' .. shard)
if meta[1] ~= input[1] then return redis.error_reply('CHANGED ' .. (meta[1] or 'none')) end

-- A raised limit may free who is parked.
epoch = redis.call('HINCRBY', META, 'epoch', 1)

for _, spec in ipairs(input[4]) do
  load_accounts({ spec[1] })
  local account = account_of(spec[1])
  set_limits(account.row, generation, spec[2], spec[3], epoch)
  account.dirty = true
end
save_accounts()

for _, candidate in ipairs(input[5]) do
  local name, class = candidate[1], candidate[2]
  local rank = class * CLASS_SPAN
  local row = cmsgpack.pack({ class, candidate[3], candidate[4], candidate[5], rank, candidate[6] })
  if redis.call('HSETNX', ROWS, name, row) == 1 then
    redis.call('ZADD', READY, rank, name)
    redis.call('ZREM', PARKED, name)
  end
end

if input[7] and not meta[2] then
  local times = {}
  for class = 1, input[6] do times[class] = 0 end
  redis.call('HSET', META, 's:' .. shard, cmsgpack.pack({ epoch, times, input[9] }))
end
redis.call('PEXPIRE', ROWS, lifetime)
redis.call('PEXPIRE', READY, lifetime)
redis.call('PEXPIRE', PARKED, lifetime)
return redis.status_reply('OK')
