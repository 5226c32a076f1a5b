"""Recovers the jobs of workers that died. Every worker looks for them; each job moves by one script.

A heartbeat is valid for `EXECUTION_TTL`. After an outage of Redis, however, the heartbeats of live workers are as old
as those of dead ones. So the silence of an execution counts only while Redis answers. An execution without a heartbeat
in SILENT_SECONDS of such time is dead, and after an outage a live worker has that long for the next one.
"""

import logging
import re
import time
from collections.abc import Sequence

import redis

from difuso.jobs.contract import JOB_ID
from difuso.jobs.redis.job_records import JobRecord
from difuso.jobs.redis.keys import QueueName, running_key

from . import rq_scripts
from .rq_scripts import EXECUTION_TTL

log = logging.getLogger(__name__)

RECOVERY_SECONDS = 2.0  # time between two looks
HEARTBEAT_SECONDS = 3.0  # time between two heartbeats
SILENT_SECONDS = 7.5
LOOKAHEAD = 1000  # number of entries of a list that are examined

_ENTRY = re.compile(rf"({JOB_ID.strip('^$')}):([0-9a-f]{{32}})")


class Recovery:
    """Finds the jobs of dead workers."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._looked_at = time.monotonic()
        # by key and entry: the last heartbeat, and the seconds of silence since
        self._seen: dict[tuple[str, bytes], tuple[float, float]] = {}

    def run(self, queues: Sequence[QueueName]) -> list[JobRecord]:
        """Puts the jobs of dead workers at the front of their queues, or gives them up; returns those given up."""
        marks = self._look(queues)
        given_up: list[JobRecord] = []
        for queue in queues:
            running = running_key(queue)
            for entry, expires_at in reversed(marks[running]):
                left = expires_at - time.time()  # of a worker whose clock is far ahead it says nothing
                if not 0 < left <= EXECUTION_TTL and self._seen[running, entry][1] >= SILENT_SECONDS:
                    given_up += self._take(queue, entry, expires_at)
        return given_up

    def _look(self, queues: Sequence[QueueName]) -> dict[str, list[tuple[bytes, float]]]:
        """Returns the entries of running jobs by key, each with its last heartbeat."""
        running = list(map(running_key, queues))
        with self._client.pipeline(transaction=False) as pipe:
            for key in running:
                pipe.zrange(key, 0, LOOKAHEAD, withscores=True)
            marks = dict(zip(running, pipe.execute(), strict=True))
        moment, before = time.monotonic(), self._seen
        passed, self._looked_at = min(moment - self._looked_at, 2 * RECOVERY_SECONDS), moment  # longer is an outage
        self._seen = {}
        for key, there in marks.items():
            for entry, mark in there:
                last, silent = before.get((key, entry), (None, 0.0))
                self._seen[key, entry] = (mark, silent + passed if mark == last else 0.0)
        return marks

    def _take(self, queue: QueueName, entry: bytes, expires_at: float) -> list[JobRecord]:
        """Ends a dead execution; returns a list of the job if it is given up, else an empty list."""
        named = _ENTRY.fullmatch(entry.decode(errors="replace"))
        if named is None:
            log.warning("removed from the running jobs: not a job", extra={"entry": repr(entry[:120])})
            self._client.zrem(running_key(queue), entry)
            return []
        job_id, execution = named[1], named[3]
        what, record = rq_scripts.recover(self._client, queue, job_id, execution, last_beat=expires_at)
        if what in ("queued", "failed"):
            log.warning("the worker of a job died", extra={"job_id": job_id})
        if what != "failed":
            return []
        log.warning("a job is given up: its workers died", extra={"job_id": job_id})
        return [JobRecord.of(job_id, record)]
