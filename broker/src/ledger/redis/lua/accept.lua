-- Accept: days and months are not waited for whose counts are lost, and replicas not that are gone.
--
-- KEYS: meta, brokers, recovery. ARGV: [1] how many replicas are there.
-- Returns 1, or 0 if neither is waited for.

local accepted = 0
if redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('HSET', KEYS[3], 'accepted', 1)
  accepted = 1
end
if (tonumber(redis.call('HGET', KEYS[1], 'acks')) or 0) > tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'acks', ARGV[1])
  accepted = 1
end
return accepted
