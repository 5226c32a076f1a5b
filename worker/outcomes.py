"""How a job ends: the fence is checked, then RQ is told, then those who wait. Each step can be repeated.

Nothing is written for a job that was given to another worker meanwhile; it is that one's to end.
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
        rq: the worker's side towards Redis.
        reporter: tells front ends.
        writers: forget what only an unfinished job needs.
        metrics: where to count.
    """

    def __init__(self, rq: RqBase, reporter: Reporter, writers: Writers, metrics: WorkerMetrics) -> None:
        self._rq = rq
        self._reporter = reporter
        self._writers = writers
        self._metrics = metrics

    def succeed(self, item: RunningJob, spent: Spent) -> str:
        """Its pictures are stored; returns how it left this worker."""
        tried = False

        def commit() -> bool:
            nonlocal tried
            if not self._rq.owns(item.rq_job, item.execution):
                return tried  # if we tried before, it was the reply that was lost
            tried = True
            self._reporter.write(self._rq.connection, item.active, encode_seconds=spent.seconds)
            self._rq.succeed(item.rq_job, item.queue, item.execution, {"images": item.active.job.answers})
            return True

        return self._end(item, "succeeded", owned=self._rq.insist(commit))

    def fail(self, item: RunningJob, error: BaseException) -> str:
        """The job failed, or was cancelled; returns how it left this worker."""
        code = failure_code(error, item.active.job.trail)

        def commit() -> bool:
            if code is not None and self._rq.owns(item.rq_job, item.execution):
                self._reporter.write(self._rq.connection, item.active, failure=code)
            return self._rq.fail(item.rq_job, item.queue, item.execution, error, stopped=code is None)

        return self._end(item, "cancelled" if code is None else "failed", owned=self._rq.insist(commit))

    def release(self, item: RunningJob) -> str:
        """Hands the job to another worker, because this one is to stop; returns how it left this worker."""
        self._rq.insist(lambda: self._rq.hand_back(item.rq_job, item.queue, item.execution))
        self._rq.insist(lambda: self._reporter.requeued(item.active.job))
        self._metrics.retried("drain")
        log.info("job handed back", extra={**item.active.job.trail, "image_steps": item.active.image_steps})
        return "handed back"

    def refuse(self, claim: Claim, error: Exception) -> None:
        """It was claimed, but cannot be begun, or was cancelled before."""
        job, code = claim.rq_job, failure_code(error, {"job_id": claim.rq_job.id})
        if code is not None:
            self._rq.insist(lambda: self._reporter.not_started(job.id, code))
        self._rq.insist(lambda: self._rq.fail(job, claim.queue, claim.execution, error, stopped=code is None))
        self._writers.forget(job.id)

    def give_up(self, job_ids: Iterable[str]) -> None:
        """Their workers died, and RQ has been told that they failed."""
        for job_id in job_ids:
            log.warning("a job is given up: its workers died", extra={"job_id": job_id})
            self._writers.forget(job_id)

    def _end(self, item: RunningJob, outcome: str, *, owned: bool) -> str:
        trail = item.active.job.trail
        if not owned:
            log.warning("a job was given to another worker, or its end written before", extra=trail)
            self._metrics.retried("lost")
            return "lost"
        self._rq.insist(lambda: self._reporter.ended(item.active.job))
        self._writers.forget(item.active.job.id)
        self._metrics.finished(item.active, outcome)
        log.info("job ended", extra={**trail, "outcome": outcome})
        return outcome
