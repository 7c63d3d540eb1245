-- Leave: a broker ends in order, and has nothing to remember.
--
-- KEYS: meta, brokers. ARGV: [1] ledger id, [2] the run of the server, [3] the broker. Returns OK.
-- When the last one has left, nothing can be granted that is not written here.

local meta = redis.call('HMGET', KEYS[1], 'id', 'run', 'beat')
if meta[1] == ARGV[1] and meta[2] == ARGV[2] then
  redis.call('ZREM', KEYS[2], ARGV[3])
  redis.call('ZADD', KEYS[2], tonumber(meta[3]) or 0, HAS_LEFT .. ARGV[3])
  local there = false
  for _, broker in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    there = there or not has_left(broker)
  end
  if not there then redis.call('HSET', KEYS[1], 'closed', 1) end
end
return redis.status_reply('OK')
