"""Versions of models that no folder holds any longer: when a worker may let go of them."""

import time
from collections.abc import Collection

import redis
from rq.registry import StartedJobRegistry

from jobs.redis.keys import QueueName
from jobs.redis.queues import queue_key, queues_of

from ..engine.active import ActiveJob
from ..engine.held_jobs import Claim

LINGER_SECONDS = 30.0  # without jobs; front ends look for newer versions every 5 s, and then ask for this one no more


def _lists_of(ref: str) -> list[str]:
    """Returns the keys of the waiting, popped and running jobs of a version, on whatever worker."""
    waiting = [queue_key(name) for name in queues_of(ref)]
    running = [StartedJobRegistry.key_template.format(name) for name in queues_of(ref)]
    return [*waiting, *(f"{key}:intermediate" for key in waiting), *running]


class Superseded:
    """Notes since when each superseded version has had no jobs."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._idle_since: dict[str, float] = {}  # by ref

    def idle(self, refs: Collection[str], held: Collection[Claim], actives: Collection[ActiveJob]) -> list[str]:
        """Returns which of the superseded versions have had no jobs for a while, here or anywhere."""
        used = {ref for active in actives for ref in active.job.refs}
        used |= {name.ref for claim in held if (name := QueueName.read(claim.queue.name)) is not None}
        used |= {ref for ref in refs if self._client.exists(*_lists_of(ref))}
        now = time.monotonic()
        self._idle_since = {ref: self._idle_since.get(ref, now) for ref in refs if ref not in used}
        return [ref for ref, since in self._idle_since.items() if now - since >= LINGER_SECONDS]
