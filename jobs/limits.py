"""The limits of an owner: the rate of image-steps, and the number of unfinished image-steps.

No counter is decreased when a job ends. Instead each new job looks up in RQ's records which jobs of its owner are
unfinished. So no share is ever lost, however a job, a worker or a front end ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import redis
from pydantic import Field

from . import keys
from .contract import Job
from .values import Frozen

BURST_SECONDS = 60  # an account holds at most the image-steps of this time, and is full again after it
RESERVED_SECONDS = 30  # a share is free again if its job does not appear in the queue within this time

# One script, so that two simultaneous requests cannot both take the last share. It also reads the records of the
# owner's jobs, which are not among its KEYS; Redis Cluster would forbid that, but RQ does not support it either. Values
# that are not numbers, written by somebody else, count as absent, since an error would lock the owner out for ever.
# _COUNT and _CHECK only read.
_COUNT = """
local id, cost, now = ARGV[1], tonumber(ARGV[2]), redis.call('TIME')
local most, rate, burst = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
now = now[1] + now[2] / 1e6

local function number(text, pattern)
  local found = tonumber(text and string.match(text, pattern) or '')
  return found and math.abs(found) < 1e15 and found
end

local used, ended, shares = 0, {}, redis.call('HGETALL', KEYS[1])
for i = 1, #shares, 2 do
  local share, since = number(shares[i + 1], '^(%S+) '), number(shares[i + 1], ' (%S+)$')
  local state = redis.pcall('HGET', ARGV[6] .. shares[i], 'status')
  local unfinished = state == 'queued' or state == 'started'
  if share and since and (unfinished or (not state and math.abs(now - since) < tonumber(ARGV[7]))) then
    used = used + share
  else
    table.insert(ended, shares[i])
  end
end

local balance, stepped_back = burst, false
if rate then
  local account = redis.call('HMGET', KEYS[2], 'balance', 'at')
  local paid, at = number(account[1], '%S+'), number(account[2], '%S+')
  if paid and at then
    stepped_back = at > now  -- Redis's clock, so that nobody knows how much time has passed
    balance = math.min(burst, paid + math.max(0, now - at) * rate)
  end
end
"""
# Without a new time a balance that is used up would not grow until the clock is where it was.
_MEND = """
for _, each in ipairs(ended) do redis.call('HDEL', KEYS[1], each) end
if stepped_back then redis.call('HSET', KEYS[2], 'at', string.format('%.6f', now)) end
"""
_CHECK = """
local granted = {'', '0'}
if redis.call('HEXISTS', KEYS[1], id) == 1 then return granted end
if most and used + cost > most then return {'unfinished', tostring(used)} end
if rate and balance <= 0 then return {'rate', tostring(-balance / rate)} end
"""
_TAKE = """
if rate then
  redis.call('HSET', KEYS[2], 'balance', tostring(balance - cost), 'at', string.format('%.6f', now))
  redis.call('EXPIRE', KEYS[2], math.ceil((burst - balance + cost) / rate) + 1)
end
redis.call('HSET', KEYS[1], id, string.format('%d %.6f', cost, now))
if redis.call('TTL', KEYS[1]) < tonumber(ARGV[8]) then redis.call('EXPIRE', KEYS[1], ARGV[8]) end
"""
# The share is gone if the job waited for too long to be queued. Another request may have queued it, which paid nothing.
_PUT_BACK = """
if redis.call('EXISTS', ARGV[6] .. id) == 1 or redis.call('HDEL', KEYS[1], id) == 0 or not rate then return end
redis.call('HSET', KEYS[2], 'balance', tostring(balance + cost), 'at', string.format('%.6f', now))
redis.call('EXPIRE', KEYS[2], math.ceil((burst - balance) / rate) + 1)
"""
_RESERVE = _COUNT + _MEND + _CHECK + _TAKE + "return granted"
_REFUSAL = _COUNT + _CHECK + "return granted"
_GIVE_BACK = _COUNT + _PUT_BACK
_USAGE = _COUNT + "return {tostring(used), tostring(balance or 0)}"


class Limits(Frozen):
    """The limits of an owner; None means unlimited.

    Attributes:
        rate: the average image-steps per second. An account fills at this rate, up to BURST_SECONDS of it. A job is
            accepted if the balance is positive, and takes all its image-steps. So a large job is accepted too, but
            the next one is not.
        unfinished: the most image-steps of all jobs that are queued or running; each counts in full until it ends.
    """

    rate: float | None = Field(default=None, gt=0)
    unfinished: int | None = Field(default=None, gt=0)

    @property
    def are_set(self) -> bool:
        return self.rate is not None or self.unfinished is not None


@dataclass(frozen=True)
class Refusal:
    """The limit that is reached; `amount` is the seconds until the balance is positive, or unfinished image-steps."""

    limit: Literal["rate", "unfinished"]
    amount: float


@dataclass(frozen=True)
class Usage:
    """What an owner has used of its limits.

    Attributes:
        unfinished: the image-steps of its unfinished jobs.
        balance: the image-steps in its account; 0 without a rate. A job is accepted while it is positive.
    """

    unfinished: float
    balance: float


def reserve(client: redis.Redis, job: Job, owner: str, limits: Limits, *, records: str, ttl: int) -> Refusal | None:
    """Reserves a job's share of its owner's limits, once for each job; returns None if the job is within the limits.

    Args:
        records: the prefix of the keys of RQ's job records.
        ttl: the time in seconds after which an owner without new jobs is forgotten; longer than a job waits and runs.
    """
    return _refusal(_run(client, _RESERVE, owner, limits, records, job=job, ttl=ttl))


def give_back(client: redis.Redis, job: Job, owner: str, limits: Limits, *, records: str) -> None:
    """Gives back the share and the cost of a job that was reserved but not queued; `records` as in `reserve`."""
    _run(client, _GIVE_BACK, owner, limits, records, job=job)


def refusal(client: redis.Redis, job: Job, owner: str, limits: Limits, *, records: str) -> Refusal | None:
    """Returns what `reserve` would return for a job now, and writes nothing; `records` as in `reserve`."""
    return _refusal(_run(client, _REFUSAL, owner, limits, records, job=job))


def usage(client: redis.Redis, owner: str, limits: Limits, *, records: str) -> Usage:
    """Returns what an owner has used of its limits; `records` as in `reserve`."""
    return Usage(*map(float, _run(client, _USAGE, owner, limits, records)))


def _run(
    client: redis.Redis,
    script: str,
    owner: str,
    limits: Limits,
    records: str,
    *,
    job: Job | None = None,
    ttl: int = 0,
) -> Any:
    names = keys.shares(owner), keys.account(owner)
    burst = BURST_SECONDS * limits.rate if limits.rate else ""
    share = (job.id, job.image_steps) if job else ("", 0)
    bounds = (limits.unfinished or "", limits.rate or "", burst)
    return client.eval(script, len(names), *names, *share, *bounds, records, RESERVED_SECONDS, ttl)


def _refusal(answer: Any) -> Refusal | None:
    limit, amount = answer
    return Refusal(limit.decode(), float(amount)) if limit else None
