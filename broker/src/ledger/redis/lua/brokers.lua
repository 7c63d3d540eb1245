-- Names of brokers, as `kb:{P}:brokers` has them.

-- Whether that is the name of one that ended in order.
local function has_left(name)
  return string.sub(name, 1, #HAS_LEFT) == HAS_LEFT
end
