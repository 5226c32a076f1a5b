"""The limits of an owner: the rate of image-steps, the number of unfinished image-steps, and the bytes in the store.

No counter is decreased when a job ends. Instead each new job looks up in RQ's records which jobs of its owner are
unfinished. So no share is ever lost, however a job, a worker or a front end ends. Rate and bytes are accounts that fill
with time, and need not know how jobs end.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import redis
from pydantic import Field
from rq.job import Job as RqJob

from ..cost import NOTHING, Cost
from ..values import Frozen
from . import keys

BURST_SECONDS = 60  # an account of a rate holds at most the image-steps of this time, and is full again after it

# One script, so that two simultaneous requests cannot both take the last share. It also reads the records of the
# owner's jobs, which are not among its KEYS; Redis Cluster would forbid that, but RQ does not support it either.
# _COUNT and _CHECK only read.
_COUNT = (
    f"local records = '{RqJob.key_for('')}'"
    + """
local id, image_steps, bytes, now = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), redis.call('TIME')
local most, ttl = tonumber(ARGV[4]), tonumber(ARGV[5])
now = now[1] + now[2] / 1e6

local used, ended, shares = 0, {}, redis.call('HGETALL', KEYS[1])
for i = 1, #shares, 2 do
  local state = redis.call('HGET', records .. shares[i], 'status')
  if state == 'queued' or state == 'started' then
    used = used + shares[i + 1]
  else
    table.insert(ended, shares[i])
  end
end

-- An account of a limit that is not set has no full balance, and is neither asked nor written.
local function account(key, cost, full, seconds)
  local found = {key = key, cost = cost, full = full, rate = full and full / seconds, balance = full}
  if full then
    local kept = redis.call('HMGET', key, 'balance', 'at')
    local paid, at = tonumber(kept[1] or nil), tonumber(kept[2] or nil)
    if paid then
      found.stepped_back = at > now  -- Redis's clock, so that nobody knows how much time has passed
      found.balance = math.min(full, paid + math.max(0, now - at) * found.rate)
    end
  end
  return found
end

local function pay(from, cost)
  if not from.full then return end
  redis.call('HSET', from.key, 'balance', tostring(from.balance - cost), 'at', string.format('%.6f', now))
  redis.call('EXPIRE', from.key, math.max(1, math.ceil((from.full - from.balance + cost) / from.rate) + 1))
end

local work = account(KEYS[2], image_steps, tonumber(ARGV[6]), tonumber(ARGV[7]))
local room = account(KEYS[3], bytes, tonumber(ARGV[8]), tonumber(ARGV[9]))
"""
)
# Without a new time a balance that is used up would not grow until the clock is where it was.
_MEND = """
for _, each in ipairs(ended) do redis.call('HDEL', KEYS[1], each) end
for _, each in ipairs({work, room}) do
  if each.stepped_back then redis.call('HSET', each.key, 'at', string.format('%.6f', now)) end
end
"""
_CHECK = """
if most and used + image_steps > most then return {'unfinished', tostring(used)} end
if work.full and work.balance <= 0 then return {'rate', tostring(-work.balance / work.rate)} end
if room.full and room.balance < bytes then return {'stored', tostring((bytes - room.balance) / room.rate)} end
"""
_TAKE = """
pay(work, image_steps)
pay(room, bytes)
redis.call('HSET', KEYS[1], id, image_steps)
if redis.call('TTL', KEYS[1]) < ttl then redis.call('EXPIRE', KEYS[1], ttl) end
"""
_REFUSAL = _COUNT + _CHECK + "return {'', '0'}"
_USAGE = _COUNT + "return {tostring(used), tostring(work.balance or 0), tostring(room.balance or 0)}"


class Limits(Frozen):
    """The limits of an owner; None means unlimited."""

    # the average image-steps per second. An account fills at this rate, up to BURST_SECONDS of it. A job is accepted if
    # the balance is positive, and takes all its image-steps. So a large job is accepted too, but the next one is not.
    rate: float | None = Field(default=None, gt=0)
    # the most image-steps of all jobs that are queued or running; each counts in full until it ends
    unfinished: int | None = Field(default=None, gt=0)
    # the bytes that jobs may store in the time that results are kept. An account of so many bytes fills in this time. A
    # job is accepted if the account holds the most that it may store.
    stored: int | None = Field(default=None, gt=0)

    @property
    def are_set(self) -> bool:
        return self != UNLIMITED


UNLIMITED = Limits()


@dataclass(frozen=True)
class Refusal:
    """The limit that is reached; `amount` is the image-steps that are unfinished, or the seconds to wait."""

    limit: Literal["rate", "unfinished", "stored"]
    amount: float

    @classmethod
    def read(cls, answer: Sequence[bytes]) -> Self | None:
        """Reads the answer of a script; None if no limit is reached."""
        limit, amount = answer
        return cls(limit.decode(), float(amount)) if limit else None  # type: ignore[arg-type]


@dataclass(frozen=True)
class Usage:
    """The used part of an owner's limits."""

    unfinished: float  # the image-steps of its unfinished jobs
    balance: float  # the image-steps in its account; 0 without a rate. A job is accepted while it is positive.
    room: float = 0.0  # the bytes in its account; 0 if they are not limited


@dataclass(frozen=True)
class Ledger:
    """The account of an owner's limits, in Redis."""

    client: redis.Redis
    owner: str
    limits: Limits
    kept_seconds: float

    def take(self, before: str, after: str, job_id: str, cost: Cost, names: Any, facts: Any, *, ttl: int) -> Any:
        """Takes a job's share, if the job is within the limits, between two parts of a script.

        It answers what either part returns, or a `Refusal`. After `ttl` seconds, longer than a job waits and runs, an
        owner without new jobs is forgotten.

        Args:
            names: the keys that both parts find at the end of KEYS.
            facts: the arguments of both, which find at the end of ARGV where they begin.
        """
        script = _COUNT + before + _MEND + _CHECK + _TAKE + after
        return self._run(script, job_id, cost, ttl, names=names, facts=facts)

    def refusal(self, job_id: str, cost: Cost) -> Refusal | None:
        """Returns the limit that `take` would find reached for a job now, and writes nothing."""
        return Refusal.read(self._run(_REFUSAL, job_id, cost))

    def usage(self) -> Usage:
        """Returns what the owner has used."""
        return Usage(*map(float, self._run(_USAGE)))

    def _run(
        self,
        script: str,
        job_id: str = "",
        cost: Cost = NOTHING,
        ttl: int = 0,
        names: Sequence[str] = (),
        facts: Sequence[Any] = (),
    ) -> Any:
        names = [keys.shares(self.owner), keys.account(self.owner), keys.room(self.owner), *names]
        limits = self.limits
        work = (BURST_SECONDS * limits.rate if limits.rate else "", BURST_SECONDS)
        room = (limits.stored or "", self.kept_seconds)
        share = (job_id, cost.image_steps, cost.stored_bytes, limits.unfinished or "", ttl, *work, *room)
        return self.client.eval(script, len(names), *names, *share, *facts, len(share) + 1)
