-- Accept: days and months are not waited for whose counts are lost.
--
-- KEYS: recovery. Returns 1, or 0 if no recovery goes on.

if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
redis.call('HSET', KEYS[1], 'accepted', 1)
return 1
