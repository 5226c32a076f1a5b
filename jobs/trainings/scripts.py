"""The records of trainings in Redis, and their changes, each of which is one script.

A training is one hash in Redis. `DUE` has the time from which a trainer may take it: at once while it is queued, and
while it runs when its trainer has been silent for LEASE_SECONDS, because each report moves that time. So a lease is
nothing but a due time. Every claim raises the fence in the record, and each write of a trainer names it: a trainer that
was silent for too long changes nothing any more.
"""

from ..redis.events import status_channel

ALL = "difuso:trainings"  # sorted set: id -> time of acceptance
DUE = "difuso:trainings:due"  # sorted set: id -> time, by the clock of Redis, from which a trainer may take it
NAMES = "difuso:trainings:names"  # hash: name of a model -> id
RECORD = "difuso:training:"  # and the id: hash, see `Training`

SHARED = f"""
local function announce(id) redis.call('PUBLISH', '{status_channel("")}' .. id, '{{}}') end
local function now()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1e6
end
local all, due, names, record = '{ALL}', '{DUE}', '{NAMES}', '{RECORD}' .. (ARGV[1] or '')
local resting = {{pause = 'paused', stop = 'stopped'}}  -- what becomes of a training that nobody runs
local function rest(id, state, record)
  redis.call('HSET', record, 'state', state, 'ended_at', now())
  redis.call('ZREM', due, id)
end
local function forget(id, name, record)
  if redis.call('HGET', names, name) == id then redis.call('HDEL', names, name) end
  for _, set in ipairs({{all, due}}) do redis.call('ZREM', set, id) end
  redis.call('DEL', record)
  announce(id)
end
local function wait()  -- in the order of acceptance, but at once if the clock of the front end is ahead
  redis.call('ZADD', due, math.min(redis.call('ZSCORE', all, ARGV[1]), now()), ARGV[1])
end
local function is_full(order, most)  -- whether the owner of an order has so many trainings that have not ended
  local owner, count = cjson.decode(order).owner, 0
  for _, id in ipairs(redis.call('ZRANGE', all, 0, -1)) do
    local state, asked, order = unpack(redis.call('HMGET', '{RECORD}' .. id, 'state', 'asked', 'order'))
    if (state == 'queued' or state == 'running' or state == 'paused') and asked ~= 'delete' then
      local is_read, found = pcall(cjson.decode, order)
      if is_read and found.owner == owner then count = count + 1 end
    end
  end
  return count >= tonumber(most)
end
"""
CREATE = """
local name, created_at, order, most = unpack(ARGV, 2)
if is_full(order, most) then return -2 end
if redis.call('HSETNX', names, name, ARGV[1]) == 0 then return 0 end
redis.call('HSET', record, 'order', order, 'state', 'queued')
redis.call('ZADD', all, created_at, ARGV[1])
wait()
return 1
"""
ASK = """
local state, asked = unpack(redis.call('HMGET', record, 'state', 'asked'))
local wanted = ARGV[2]
if not state or asked == 'delete' then return -1 end
if wanted == 'delete' then
  if state ~= 'running' then wait() end
elseif wanted == 'resume' then
  if state == 'running' then
    if asked ~= 'pause' then return 0 end
    wanted = ''
  elseif state == 'queued' or state == 'succeeded' then return 0
  elseif state ~= 'paused' and is_full(redis.call('HGET', record, 'order'), ARGV[3]) then return -2
  else
    redis.call('HSET', record, 'state', 'queued')
    redis.call('HDEL', record, 'reason', 'ended_at', 'lost', 'expired')
    wanted = ''
    wait()
  end
elseif state == 'queued' or (state == 'paused' and wanted == 'stop') then
  rest(ARGV[1], resting[wanted], record)
  wanted = ''
elseif state ~= 'running' then return 0 end
redis.call('HSET', record, 'asked', wanted)
announce(ARGV[1])
return 1
"""
CLAIM = """
local time = now()
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', time)) do
  local record = record .. id
  local state, asked = unpack(redis.call('HMGET', record, 'state', 'asked'))
  if not state then
    redis.call('ZREM', due, id)
  elseif resting[asked] then  -- its trainer died before it could say so
    rest(id, resting[asked], record)
    redis.call('HSET', record, 'asked', '')
    announce(id)
  elseif (asked or '') == ARGV[2] then
    if state == 'running' then redis.call('HINCRBY', record, 'lost', 1) end
    if asked ~= 'delete' then redis.call('HSET', record, 'state', 'running') end
    redis.call('HSETNX', record, 'started_at', time)
    redis.call('ZADD', due, time + ARGV[3], id)
    announce(id)
    return {id, redis.call('HINCRBY', record, 'fence', 1)}
  end
end
return false
"""
REPORT = """
local fence, lease, state = unpack(ARGV, 2, 4)
local held, asked = unpack(redis.call('HMGET', record, 'fence', 'asked'))
if held ~= fence then return false end
local news = state ~= 'running'
if state == 'queued' then state = resting[asked] or state end
for place = 5, #ARGV, 2 do
  if redis.call('HGET', record, ARGV[place]) ~= ARGV[place + 1] then
    redis.call('HSET', record, ARGV[place], ARGV[place + 1])
    news = true
  end
end
if state == 'running' then
  redis.call('ZADD', due, now() + lease, ARGV[1])
else
  redis.call('HINCRBY', record, 'fence', 1)
  if state == 'queued' then redis.call('HSET', record, 'state', state) else rest(ARGV[1], state, record) end
  if asked ~= 'delete' then redis.call('HSET', record, 'asked', '') end
  if asked == 'delete' or state == 'queued' then wait() end
end
if news then announce(ARGV[1]) end
return asked or ''
"""
FORGET = """
if redis.call('HGET', record, 'fence') == ARGV[2] then forget(ARGV[1], ARGV[3], record) end
"""
EXPIRE = """
local function expire(id)
  local record = record .. id
  local ended_at, asked, order, progress, expired =
    unpack(redis.call('HMGET', record, 'ended_at', 'asked', 'order', 'progress', 'expired'))
  if ended_at and not expired and asked ~= 'delete' and ended_at + ARGV[2] < now() then
    if progress and type(cjson.decode(progress).served) == 'number' then  -- who has the record can delete the model
      if redis.call('HGET', record, 'state') == 'paused' then redis.call('HSET', record, 'state', 'stopped') end
      redis.call('HSET', record, 'expired', 1)
      redis.call('HDEL', record, 'saved', 'recipe', 'log')
      announce(id)
    else
      order = cjson.decode(order)
      forget(id, order.dry_run and id or order.name, record)
    end
  end
end
for _, id in ipairs(redis.call('ZRANGE', all, 0, -1)) do pcall(expire, id) end  -- whatever one of them holds
"""
