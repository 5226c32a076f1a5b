"""Recovers the jobs of workers that died. Every worker looks for them; each job moves in one transaction.

A heartbeat is valid for EXECUTION_TTL. After an outage of Redis, however, the heartbeats of live workers are as old as
those of dead ones. So the silence of an execution counts only while Redis answers. An execution without a
heartbeat in SILENT_SECONDS of such time is dead, and after an outage a live worker has that long for the next one.
"""

import logging
import re
import time
from collections.abc import Sequence
from typing import Any

import redis
from rq import Queue
from rq.executions import Execution
from rq.job import JobStatus as RqStatus
from rq.job_lifecycle import record_job_failure
from rq.utils import now, utcformat

from jobs.contract import JOB_ID
from jobs.redis.rq_job import DEATHS, MAX_DEATHS, DataJob

log = logging.getLogger(__name__)

RECOVERY_SECONDS = 2.0  # time between two looks
HEARTBEAT_SECONDS = 4.0  # time between two heartbeats
EXECUTION_TTL = 12  # seconds that a heartbeat is valid: three may be missed before another worker gets the job
SILENT_SECONDS = 10.0
POPPED_SECONDS = 8.0  # time after which a job that was popped but never started goes back
LOOKAHEAD = 1000  # number of entries of a list that are examined

Seen = dict[tuple[str, bytes], tuple[float, float]]

# It is one script, because a worker may start the job between the look and the return.
_RETURN_POPPED = """
if redis.call('LREM', KEYS[1], 1, ARGV[1]) == 1 then redis.call('LPUSH', KEYS[2], ARGV[1]) end
"""
_ENTRY = re.compile(rf"({JOB_ID.strip('^$')}):([0-9a-f]{{32}})")


class Recovery:
    """Finds the jobs of dead workers."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._looked_at = time.monotonic()
        self._seen: Seen = {}  # by key and entry: the last heartbeat, and the seconds of silence since

    def run(self, queues: Sequence[Queue]) -> list[DataJob]:
        """Puts the jobs of dead workers at the front of their queues, or gives them up; returns those given up."""
        marks = self._look(queues)
        given_up: list[DataJob] = []
        for queue in queues:
            running, popped = queue.started_job_registry.key, queue.intermediate_queue.key
            for entry, expires_at in reversed(marks[running]):
                left = expires_at - time.time()  # of a worker whose clock is far ahead it tells nothing
                if not 0 < left <= EXECUTION_TTL and self._seen[running, entry][1] >= SILENT_SECONDS:
                    given_up += self._take(queue, entry, expires_at)
            for entry, _ in marks[popped]:
                if self._seen[popped, entry][1] >= POPPED_SECONDS:  # its worker died before it could start it
                    self._client.eval(_RETURN_POPPED, 2, popped, queue.key, entry)
        return given_up

    def _look(self, queues: Sequence[Queue]) -> dict[str, list[tuple[bytes, float]]]:
        """Returns the entries of running and popped jobs by key, each with its last heartbeat; 0 for popped jobs."""
        running = [queue.started_job_registry.key for queue in queues]
        popped = [queue.intermediate_queue.key for queue in queues]
        with self._client.pipeline(transaction=False) as pipe:
            for key in running:
                pipe.zrange(key, 0, LOOKAHEAD, withscores=True)
            for key in popped:
                pipe.lrange(key, 0, LOOKAHEAD)
            found = pipe.execute()
        marks = dict(zip(running, found[: len(running)], strict=True))
        for key, there in zip(popped, found[len(running) :], strict=True):
            marks[key] = [(entry, 0.0) for entry in there]
        moment, before = time.monotonic(), self._seen
        passed, self._looked_at = min(moment - self._looked_at, 2 * RECOVERY_SECONDS), moment  # longer is an outage
        self._seen = {}
        for key, there in marks.items():
            for entry, mark in there:
                last, silent = before.get((key, entry), (None, 0.0))
                self._seen[key, entry] = (mark, silent + passed if mark == last else 0.0)
        return marks

    def _take(self, queue: Queue, entry: bytes, expires_at: float) -> list[DataJob]:
        """Ends a dead execution; returns a list of the job if it is given up, else an empty list."""
        try:
            named = _ENTRY.fullmatch(entry.decode("ascii"))
            if named is None:
                raise ValueError("the entry does not name an execution")
            return self._move(queue, Execution(named[3], named[1], self._client), expires_at)
        except redis.WatchError:
            return []  # the worker lives, or another one recovered the job first
        except Exception as error:
            if isinstance(error, redis.RedisError):
                raise
            facts = {"entry": repr(entry[:120]), "error": ascii(error)[:200]}
            log.warning("removed from the running jobs: not a job", extra=facts)
            self._client.zrem(queue.started_job_registry.key, entry)
            return []

    def _move(self, queue: Queue, execution: Execution, expires_at: float) -> list[DataJob]:
        registry = queue.started_job_registry
        with self._client.pipeline() as pipe:
            # Recovery by another worker changes the job, and each heartbeat changes the execution.
            pipe.watch(DataJob.key_for(execution.job_id), execution.key)  # type: ignore[no-untyped-call]
            if pipe.zscore(registry.key, execution.composite_key) != expires_at:
                return []
            job = DataJob.read(execution.job_id, self._client)
            if job.origin != queue.name:
                raise ValueError("the job belongs in another queue")
            started, tries = job.get_status(refresh=False) == RqStatus.STARTED, job.retries_left or 0
            given_up = started and (tries <= 0 or job.deaths >= MAX_DEATHS)
            pipe.multi()
            execution.delete(job=job, pipeline=pipe)
            if given_up:
                job.ended_at = now()
                record_job_failure(job, "its workers died", pipe)
            elif started:
                counts: dict[Any, Any] = {"retries_left": tries - 1, DEATHS: job.deaths + 1}
                pipe.hset(job.key, "status", RqStatus.QUEUED, mapping={**counts, "enqueued_at": utcformat(now())})
                pipe.lpush(queue.key, job.id)
            pipe.execute()
        if started:
            log.warning("the worker of a job died", extra={"job_id": job.id, "tries_left": tries - 1})
        if given_up:
            log.warning("a job is given up: its workers died", extra={"job_id": job.id})
        return [job] if given_up else []
