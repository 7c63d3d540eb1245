-- Open: makes sure that the pool's ledger exists, and makes a catalogue the current one.
--
-- KEYS: meta. ARGV: [1] the identity to give a ledger that does not exist, [2] the catalogue's digest, [3] the run
-- of the server, which is blessed with a ledger that is made, or nothing if it was there before and is lost, [4] how
-- many replicas there are, [5] the generation that was current when it was there.
-- Returns { identity, generation }. A catalogue that is current already keeps its generation.

local meta = redis.call('HMGET', KEYS[1], 'id', 'digest', 'generation')
local id, digest, generation = meta[1], meta[2], math.max(tonumber(meta[3]) or 0, tonumber(ARGV[5]))
if not id then
  id = ARGV[1]
  redis.call('HSET', KEYS[1], 'id', id, 'run', ARGV[3], 'acks', ARGV[4])
end
if digest ~= ARGV[2] then
  generation = generation + 1
  redis.call('HSET', KEYS[1], 'digest', ARGV[2], 'generation', generation)
end
return { id, generation }
