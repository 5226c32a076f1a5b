"""Versions of models that no folder holds any longer: when a worker may let go of them."""

import time
from collections.abc import Collection

import redis

from difuso.jobs.redis.keys import queue_key, queues_of, running_key

from ..engine.active import ActiveJob

LINGER_SECONDS = 30.0  # without jobs; front ends look for newer versions every 5 s, and then ask for this one no more


def _lists_of(ref: str) -> list[str]:
    """Returns the keys of the waiting and running jobs of a version, on whatever worker."""
    return [key(name) for name in queues_of(ref) for key in (queue_key, running_key)]


class Superseded:
    """Notes since when each superseded version has had no jobs."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._idle_since: dict[str, float] = {}  # by ref

    def idle(self, refs: Collection[str], actives: Collection[ActiveJob]) -> list[str]:
        """Returns which of the superseded versions have had no jobs for a while, here or anywhere.

        `actives` run here, and may use a version as their second one.
        """
        used = {ref for active in actives for ref in active.job.refs}
        used |= {ref for ref in refs if self._client.exists(*_lists_of(ref))}
        now = time.monotonic()
        self._idle_since = {ref: self._idle_since.get(ref, now) for ref in refs if ref not in used}
        return [ref for ref, since in self._idle_since.items() if now - since >= LINGER_SECONDS]
