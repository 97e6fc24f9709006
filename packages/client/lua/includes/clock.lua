-- The server's clock, read once a script. Numbers are formatted with %.0f: Lua's own tostring keeps 14 digits only.
local clock = redis.call('TIME')
local now_us = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local now_ms = string.format('%.0f', math.floor(now_us / 1000))
