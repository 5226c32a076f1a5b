"""Ends jobs: checks the fence, tells RQ, and then wakes the clients that wait. Each step can be repeated.

Nothing is written for a job that has been given to another worker meanwhile: that worker ends it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable

from .failures import failure_code
from .held_jobs import Claim, RunningJob
from .metrics import WorkerMetrics
from .reporting import Reporter
from .results import Spent
from .rq_base import RqBase
from .writers import Writers

log = logging.getLogger(__name__)


class Outcomes:
    """Ends jobs.

    Args:
        rq: the worker's operations on Redis.
        reporter: publishes the end of each job to front ends.
        writers: delete the snapshots of jobs that have ended.
        metrics: the counters of the worker.
    """

    def __init__(self, rq: RqBase, reporter: Reporter, writers: Writers, metrics: WorkerMetrics) -> None:
        self._rq = rq
        self._reporter = reporter
        self._writers = writers
        self._metrics = metrics

    def succeed(self, running: RunningJob, spent: Spent) -> str:
        """Ends a job whose images are stored. Returns the outcome: `succeeded` or `lost`."""
        tried = False

        def commit() -> bool:
            nonlocal tried
            if not self._rq.owns(running.rq_job, running.execution):
                # After an earlier try the job may have ended so that only the reply was lost; or that try never
                # arrived, and the job is another worker's.
                return tried and not self._rq.was_given_away(running.rq_job)
            tried = True
            self._reporter.write(self._rq.connection, running.active, encode_seconds=spent.seconds)
            self._rq.succeed(running.rq_job, running.queue, running.execution, {"images": running.active.job.answers})
            return True

        return self._end(running, "succeeded", owned=self._rq.insist(commit))

    def fail(self, running: RunningJob, error: BaseException) -> str:
        """Ends a job that failed or was cancelled. Returns the outcome: `failed`, `cancelled` or `lost`."""
        code = failure_code(error, running.active.job.trail)

        def commit() -> bool:
            if code is not None and self._rq.owns(running.rq_job, running.execution):
                self._reporter.write(self._rq.connection, running.active, failure=code)
            return self._rq.fail(running.rq_job, running.queue, running.execution, error, stopped=code is None)

        return self._end(running, "cancelled" if code is None else "failed", owned=self._rq.insist(commit))

    def release(self, running: RunningJob) -> str:
        """Hands a job back to its queue. Returns the outcome, `handed back`."""
        self._rq.insist(lambda: self._rq.hand_back(running.rq_job, running.queue, running.execution))
        self._rq.insist(lambda: self._reporter.requeued(running.active.job))
        self._metrics.retried("drain")
        log.info("job handed back", extra={**running.active.job.trail, "image_steps": running.active.image_steps})
        return "handed back"

    def refuse(self, claim: Claim, error: Exception) -> None:
        """Ends a claimed job that cannot start, or that was cancelled before it did."""
        job, code = claim.rq_job, failure_code(error, {"job_id": claim.rq_job.id})
        if code is not None:
            self._rq.insist(lambda: self._reporter.not_started(job.id, code))
        self._rq.insist(lambda: self._rq.fail(job, claim.queue, claim.execution, error, stopped=code is None))
        self._writers.forget(job.id)

    def give_up(self, job_ids: Iterable[str]) -> None:
        """Cleans up after jobs whose workers died too often; RQ has been told that they failed."""
        for job_id in job_ids:
            log.warning("a job is given up: its workers died", extra={"job_id": job_id})
            self._writers.forget(job_id)

    def _end(self, running: RunningJob, outcome: str, *, owned: bool) -> str:
        trail = running.active.job.trail
        if not owned:
            log.warning("a job was given to another worker, or has already ended", extra=trail)
            self._metrics.retried("lost")
            return "lost"
        self._rq.insist(lambda: self._reporter.ended(running.active.job))
        self._writers.forget(running.active.job.id)
        self._metrics.finished(running.active, outcome)
        log.info("job ended", extra={**trail, "outcome": outcome})
        return outcome
