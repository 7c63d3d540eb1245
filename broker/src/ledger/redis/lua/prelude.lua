-- Prelude of the scripts that write accounts: names of the keys and the input. The constants before it are those
-- of the Rust kernel.

local META, ACCOUNTS, LEASES, FORGET, IDLE = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local input = cmsgpack.unpack(ARGV[1])
local epoch = 0

-- Fields of a hash, in pieces that fit on Lua's stack.
local function read_many(key, fields)
  if #fields <= 4000 then return redis.call('HMGET', key, unpack(fields)) end
  local values = {}
  for first = 1, #fields, 4000 do
    local last = math.min(first + 3999, #fields)
    local piece = redis.call('HMGET', key, unpack(fields, first, last))
    for i = first, last do values[i] = piece[i - first + 1] end
  end
  return values
end

-- One command for many arguments, in pieces that fit on Lua's stack.
local function call_many(command, key, arguments)
  for first = 1, #arguments, 4000 do
    redis.call(command, key, unpack(arguments, first, math.min(first + 3999, #arguments)))
  end
end
