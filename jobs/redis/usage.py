"""What each key has used on each day, which the scripts that end jobs count: once, whatever dies, and however often the
script is sent.

A job counts on the day of its end, by the clock of Redis and in UTC, with the work that it took however it ended. Its
images and bytes count only if they are delivered.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any, Self

import redis

from .job_records import OWNER, RESUMED_AT

KEPT_DAYS = 400

_EPOCH = date(1970, 1, 1)
_PREFIX = "difuso:usage:"
_TOTALS = f"{_PREFIX}all"  # hash like that of a day, of all days since it was last forgotten


@dataclass(frozen=True)
class Used:
    """What jobs have used. Fields of hashes in Redis are named `OWNER FACT`; without API keys OWNER is empty."""

    jobs: int = 1  # that have ended
    images: int = 0
    image_steps: int = 0  # as limits count them
    device_us: int = 0  # microseconds of the device; jobs that share a network call share its time
    stored_bytes: int = 0  # of results in the store

    @classmethod
    def read(cls, counts: Sequence[bytes | None]) -> Self:
        """Reads the fields of a hash, in the order of FACTS."""
        return cls(*(int(count or 0) for count in counts))


FACTS = tuple(field.name for field in fields(Used))

# Of a job that no worker has ended, the record tells how far it was when its last worker began.
COUNT = f"""
local function count(record, used)
  local owner, resumed_at = unpack(redis.call('HMGET', record, '{OWNER}', '{RESUMED_AT}'))
  used = used or {{jobs = 1, image_steps = tonumber(resumed_at or '') or 0}}
  for _, day in ipairs({{math.floor(redis.call('TIME')[1] / 86400), 'all'}}) do
    local key = '{_PREFIX}' .. day
    for fact, amount in pairs(used) do
      if amount > 0 then redis.call('HINCRBY', key, (owner or '') .. ' ' .. fact, amount) end
    end
    redis.call('EXPIRE', key, {KEPT_DAYS * 86400})
  end
end
"""


class UsageRecords:
    """What is counted, by the name on the key; None stands for requests without a key.

    Its methods block, and raise redis.RedisError if Redis does not answer.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def days(self, first: date, last: date) -> Iterator[tuple[date, str | None, Used]]:
        """Yields what was used on these days, by day and name; nothing for who used nothing."""
        days = [first + timedelta(number) for number in range((last - first).days + 1)]
        with self._client.pipeline(transaction=False) as pipe:
            for day in days:
                pipe.hgetall(f"{_PREFIX}{(day - _EPOCH).days}")
            for day, counts in zip(days, pipe.execute(), strict=True):
                for name, used in sorted(_by_name(counts).items()):
                    yield day, name or None, used

    def totals(self) -> dict[str | None, Used]:
        """Returns what was used in all, for counters: they begin again only after KEPT_DAYS without a job."""
        counts: Any = self._client.hgetall(_TOTALS)
        return {name or None: used for name, used in _by_name(counts).items()}


def today() -> date:
    return datetime.now(UTC).date()


def _by_name(counts: dict[bytes, bytes]) -> dict[str, Used]:
    names = {field.rpartition(b" ")[0] for field in counts}
    return {name.decode(): Used.read([counts.get(name + f" {fact}".encode()) for fact in FACTS]) for name in names}
