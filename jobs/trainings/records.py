"""Trainings: what was ordered, how far each is, and which trainer runs it.

A training is one hash in Redis. `DUE` has the time from which a trainer may take it: at once while it is queued, and
while it runs when its trainer has been silent for LEASE_SECONDS, because each report moves that time. So a lease is
nothing but a due time. Every claim raises the fence in the record, and each write of a trainer names it: a trainer that
was silent for too long changes nothing any more.
"""

import json
from typing import Any, Literal, NamedTuple

import redis

from ..errors import JobsError
from ..redis.events import status_channel
from ..values import Reported

ALL = "difuso:trainings"  # sorted set: id -> time of acceptance
DUE = "difuso:trainings:due"  # sorted set: id -> time, by the clock of Redis, from which a trainer may take it
NAMES = "difuso:trainings:names"  # hash: name of a model -> id
RECORD = "difuso:training:"  # and the id: hash, see `Training`

LEASE_SECONDS = 10.0  # of silence, after which another trainer takes a training
LOOKED_AT = 100  # trainings in one claim

Request = Literal["pause", "resume", "stop", "delete"]
State = Literal["queued", "running", "pausing", "paused", "stopping", "stopped", "succeeded", "failed"]
OVER: tuple[State, ...] = ("succeeded", "stopped", "failed")


class TrainingNotFound(JobsError):
    """There is no training of this id: it never existed, or was deleted."""


class LeaseLost(Exception):
    """Another trainer runs the training, or it was deleted."""


class Order(Reported):
    """What was ordered; `changes` are those of a recipe as the command line has them.

    A dry run measures some steps, says in its log what the whole would need, and makes no model.
    """

    id: str
    owner: str | None = None
    dataset: str
    name: str  # of the model
    preset: str
    minutes: float | None = None
    changes: tuple[str, ...] = ()
    dry_run: bool = False
    advice: str | None = None  # what to expect of so few pictures
    created_at: float


class Progress(Reported):
    """How far a training is; `steps` is 0 until its recipe is made.

    `loss` is smoothed, `losses` are up to a hundred such points (step, loss), and `held_out` the same of pictures not
    trained on. `seconds_left` is a range. `sheets` are the steps with samples, `nearest` those with the pictures
    nearest to them, and `copies` the share nearer than by chance. `served` is the step of the model that is served.
    """

    step: int = 0
    steps: int = 0
    images: int = 0
    loss: float | None = None
    losses: tuple[tuple[int, float], ...] = ()
    held_out: tuple[tuple[int, float], ...] | None = None
    seconds_left: tuple[float, float] | None = None
    sheets: tuple[int, ...] = ()
    nearest: tuple[int, ...] = ()
    copies: float | None = None
    served: int | None = None


class Training(Order):
    """A training as its record has it. Times are in seconds since the epoch."""

    state: State
    reason: str | None = None  # why it failed
    started_at: float | None = None
    ended_at: float | None = None
    progress: Progress = Progress()
    learning_rate: float | None = None  # the lower rate with which it goes on after its loss became NaN
    recipe: str = ""  # as TOML
    log: str = ""  # its last lines

    @property
    def is_over(self) -> bool:
        return self.state in OVER

    @classmethod
    def read(cls, record: dict[bytes, bytes]) -> "Training":
        """Reads a record."""
        fields: dict[str, Any] = {key.decode(): value.decode() for key, value in record.items() if value}
        order, progress = json.loads(fields.pop("order")), fields.pop("progress", "{}")
        if fields["state"] == "running":
            fields["state"] = {"pause": "pausing", "stop": "stopping"}.get(fields.get("asked", ""), "running")
        return cls.model_validate({**order, **fields, "progress": json.loads(progress)})


class Claim(NamedTuple):
    """A training that a trainer has taken."""

    training: Training
    fence: int
    asked: str  # `delete`, or empty
    saved: str  # the name of its last state in the store; empty if there is none
    lost: int  # the trainers that died with it since something was saved


_SHARED = f"""
local function announce(id) redis.call('PUBLISH', '{status_channel("")}' .. id, '{{}}') end
local function now()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1e6
end
local all, due, names, record = '{ALL}', '{DUE}', '{NAMES}', '{RECORD}' .. (ARGV[1] or '')
local function rest(id, state, record)
  redis.call('HSET', record, 'state', state)
  if state ~= 'paused' then redis.call('HSET', record, 'ended_at', now()) end
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
"""
_CREATE = """
local name, created_at, order = unpack(ARGV, 2)
if redis.call('HSETNX', names, name, ARGV[1]) == 0 then return 0 end
redis.call('HSET', record, 'order', order, 'state', 'queued')
redis.call('ZADD', all, created_at, ARGV[1])
wait()
return 1
"""
_ASK = """
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
  else
    redis.call('HSET', record, 'state', 'queued')
    redis.call('HDEL', record, 'reason', 'ended_at', 'lost')
    wanted = ''
    wait()
  end
elseif state == 'queued' or (state == 'paused' and wanted == 'stop') then
  rest(ARGV[1], wanted == 'stop' and 'stopped' or 'paused', record)
  wanted = ''
elseif state ~= 'running' then return 0 end
redis.call('HSET', record, 'asked', wanted)
announce(ARGV[1])
return 1
"""
_CLAIM = """
local time = now()
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', time, 'LIMIT', 0, ARGV[2])) do
  local record = record .. id
  local state, asked = unpack(redis.call('HMGET', record, 'state', 'asked'))
  if not state then
    redis.call('ZREM', due, id)
  elseif asked == 'pause' or asked == 'stop' then  -- its trainer died before it could say so
    rest(id, asked == 'stop' and 'stopped' or 'paused', record)
    redis.call('HSET', record, 'asked', '')
    announce(id)
  else
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
_REPORT = """
local fence, lease, state = unpack(ARGV, 2, 4)
local held, asked = unpack(redis.call('HMGET', record, 'fence', 'asked'))
if held ~= fence then return false end
local news = state ~= 'running'
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
_FORGET = """
if redis.call('HGET', record, 'fence') == ARGV[2] then forget(ARGV[1], ARGV[3], record) end
"""
_EXPIRE = """
for _, id in ipairs(redis.call('ZRANGE', all, 0, -1)) do
  local record = record .. id
  local ended_at, asked, order = unpack(redis.call('HMGET', record, 'ended_at', 'asked', 'order'))
  if ended_at and asked ~= 'delete' and ended_at + ARGV[2] < now() then
    order = cjson.decode(order)
    forget(id, order.dry_run and id or order.name, record)
  end
end
"""


class Trainings:
    """The records of all trainings. Every change is one script, so whoever dies leaves nothing half done."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def create(self, order: Order) -> bool:
        """Accepts a training; returns False if another has the name of its model."""
        return bool(self._run(_CREATE, order.id, _reserved(order), repr(order.created_at), order.model_dump_json()))

    def get(self, training_id: str) -> Training:
        """Returns a training; raises TrainingNotFound, also if it is being deleted."""
        record: Any = self._client.hgetall(RECORD + training_id)
        if not record or record.get(b"asked") == b"delete":
            raise TrainingNotFound
        return Training.read(record)

    def all(self) -> list[Training]:
        """Returns all trainings that are not being deleted, the newest first."""
        ids: Any = self._client.zrevrange(ALL, 0, -1)
        with self._client.pipeline(transaction=False) as pipe:
            for each in ids:
                pipe.hgetall(RECORD + each.decode())
            found = pipe.execute()
        return [Training.read(record) for record in found if record and record.get(b"asked") != b"delete"]

    def ask(self, training_id: str, wanted: Request) -> bool:
        """Asks for something; returns False if the state of the training does not allow it. See `get`."""
        answer = self._run(_ASK, training_id, wanted)
        if answer == -1:
            raise TrainingNotFound
        return bool(answer)

    def claim(self) -> Claim | None:
        """Takes the training that has been due for longest, for a trainer; returns None if there is none."""
        found = self._run(_CLAIM, "", LOOKED_AT, LEASE_SECONDS)
        if found is None:
            return None
        record: Any = self._client.hgetall(RECORD + found[0].decode())
        asked, saved, lost = (record.get(name, b"").decode() for name in (b"asked", b"saved", b"lost"))
        return Claim(Training.read(record), int(found[1]), asked, saved, int(lost or 0))

    def report(self, claim: Claim, state: State = "running", **fields: object) -> str:
        """Writes how far a claimed training is, and keeps it; returns what is asked, which is empty mostly.

        Another `state` gives it back: `queued` for another trainer, or for now or for good. Raises LeaseLost.
        """
        told = [part for name, value in fields.items() for part in (name, "" if value is None else str(value))]
        answer = self._run(_REPORT, claim.training.id, claim.fence, LEASE_SECONDS, state, *told)
        if answer is None:
            raise LeaseLost
        return str(answer.decode())

    def forget(self, claim: Claim) -> None:
        """Deletes the record of a claimed training, whose files are gone."""
        self._run(_FORGET, claim.training.id, claim.fence, _reserved(claim.training))

    def expire(self, seconds: float) -> None:
        """Deletes the records of the trainings that ended so long ago."""
        self._run(_EXPIRE, "", seconds)

    def ids(self) -> set[str]:
        """Returns the ids of all trainings, those that are being deleted too."""
        ids: Any = self._client.zrange(ALL, 0, -1)
        return {each.decode() for each in ids}

    def _run(self, script: str, *arguments: object) -> Any:
        return self._client.eval(_SHARED + script, 0, *map(str, arguments))


def _reserved(order: Order) -> str:
    """Returns the name that an order keeps others from using: that of its model, if it makes one."""
    return order.id if order.dry_run else order.name
