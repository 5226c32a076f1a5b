"""Webhooks: the addresses that are called when jobs have ended, and how far each call is.

The record of a job holds its `Webhook`, and the set `keys.WEBHOOKS` when a front end is to look at it. The script that
ends a job makes that time now (`events.ANNOUNCE`). Before, it is never more than LOOK_SECONDS ahead, so that the end of
a job is noticed whoever ends it: workers and front ends of older versions do not know webhooks. A claim moves the time
LEASE_SECONDS ahead, so that another front end calls if this one dies, and raises the fence, which its report names.
"""

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import redis
from pydantic import ValidationError
from rq.job import Job as RqJob

from ..values import Reported
from . import keys
from .job_records import OWNER, WEBHOOK, WEBHOOK_FENCE

LOOK_SECONDS = 60.0  # between two looks at a job that has not ended
LEASE_SECONDS = 30.0  # longer than a call, with what Redis takes
LATE_SECONDS = 30.0  # overdue, after which a webhook counts as waiting
LOOKED_AT = 100  # jobs in one claim
KEPT_SECONDS = 604_800  # that the set is kept if no front end calls webhooks any more
DELAYS = (5, 300, 1800, 7200, 18_000, 36_000, 50_400)  # seconds before each further call, as Standard Webhooks has them
JITTER = 0.1  # share of a delay that may come on top

# Lua: has a front end look at a webhook in so many seconds.
CALL_IN = f"""
local function clock()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1e6
end
local function call_in(id, seconds)
  redis.call('ZADD', '{keys.WEBHOOKS}', clock() + seconds, id)
  redis.call('EXPIRE', '{keys.WEBHOOKS}', {KEPT_SECONDS})
end
"""
# Answers the id, the fence, the webhook and the owner of each job that has ended and is claimed. An owner, or without
# owners the host of an address, gets no more places than it leaves free, so that slow receivers do not delay those of
# others. What it may not have yet goes behind what else is due.
_CLAIM = (
    CALL_IN
    + f"""
local claimed = {{}}
local most, busy = tonumber(ARGV[1]), cjson.decode(ARGV[2])
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', clock(), 'LIMIT', 0, {LOOKED_AT})) do
  local record = '{RqJob.key_for("")}' .. id
  local status, webhook, owner = unpack(redis.call('HMGET', record, 'status', '{WEBHOOK}', '{OWNER}'))
  owner = owner or string.match(webhook or '', '%a+://[^/?#"]*') or ''
  if #claimed == most then break end
  if not webhook then
    redis.call('ZREM', KEYS[1], id)
  elseif status == 'queued' or status == 'started' then
    call_in(id, {LOOK_SECONDS})
  elseif (busy[owner] or 0) < most - #claimed then
    call_in(id, {LEASE_SECONDS})
    busy[owner] = (busy[owner] or 0) + 1
    claimed[#claimed + 1] = {{id, redis.call('HINCRBY', record, '{WEBHOOK_FENCE}', 1), webhook, owner}}
  else
    call_in(id, 0)
  end
end
return claimed
"""
)
_REPORT = (
    CALL_IN
    + f"""
local id, fence, webhook, seconds = unpack(ARGV)
if redis.call('HGET', KEYS[2], '{WEBHOOK_FENCE}') ~= fence then return 0 end
redis.call('HSET', KEYS[2], '{WEBHOOK}', webhook)
if seconds == '' then redis.call('ZREM', KEYS[1], id) else call_in(id, seconds) end
return 1
"""
)


class Webhook(Reported):
    """The address that is called at the end of a job, and how far that is. Times are in seconds since the epoch."""

    url: str
    attempts: int = 0
    # status, error: the HTTP status of the last answer, or in its place why there was none
    status: int | None = None
    error: str | None = None
    next_at: float | None = None  # of the next attempt; None before the first, and if there will be none
    delivered_at: float | None = None

    def after(self, answer: int | str, jitter: float) -> Self:
        """Returns the webhook after one more attempt, which had an HTTP status, or none for the reason given.

        A status from 200 to 299 is success, and 410 says that the address wants no calls any more. `jitter` is from 0
        to 1.
        """
        at = time.time()
        status = answer if isinstance(answer, int) else None
        is_delivered = status is not None and 200 <= status < 300
        further = () if is_delivered or status == 410 else DELAYS[self.attempts :]
        return self.model_copy(
            update={
                "attempts": self.attempts + 1,
                "status": status,
                "error": None if isinstance(answer, int) else answer,
                "next_at": at + further[0] * (1 + JITTER * jitter) if further else None,
                "delivered_at": at if is_delivered else None,
            }
        )


@dataclass(frozen=True)
class Claim:
    """A webhook that this process is to call."""

    job_id: str
    fence: int
    webhook: Webhook
    owner: str  # of the job, or without owners the host of the address


class Webhooks:
    """The webhooks of all jobs. Each change is one script, so whoever dies leaves nothing half done."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def claim(self, most: int, busy: Mapping[str, int]) -> list[Claim]:
        """Takes the webhooks that are due, of jobs that have ended; `busy` counts the calls of each owner meanwhile."""
        found: Any = self._client.eval(_CLAIM, 1, keys.WEBHOOKS, most, json.dumps(busy))
        claims = []
        for job_id, fence, text, owner in found:
            with suppress(ValidationError):  # a damaged record, which is forgotten with its job
                claims.append(Claim(job_id.decode(), fence, Webhook.model_validate_json(text), owner.decode()))
        return claims

    def report(self, claim: Claim, webhook: Webhook) -> bool:
        """Writes how far a claimed webhook is now; returns False, and writes nothing, if another process has it."""
        seconds = "" if webhook.next_at is None else webhook.next_at - time.time()
        facts = claim.job_id, claim.fence, webhook.model_dump_json(exclude_none=True), seconds
        return bool(self._client.eval(_REPORT, 2, keys.WEBHOOKS, RqJob.key_for(claim.job_id), *facts))

    def waiting(self) -> int:
        """Returns how many have been due for longer than it takes."""
        count: Any = self._client.zcount(keys.WEBHOOKS, "-inf", time.time() - LATE_SECONDS)
        return int(count)
