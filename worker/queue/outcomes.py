"""Ends jobs: checks the fence, tells RQ, and then wakes the clients that wait. Each step can be repeated.

Nothing is written for a job that has been given to another worker meanwhile: that worker ends it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch

from jobs.contract import Job, JobState
from jobs.redis import keys
from jobs.redis.rq_job import DataJob

from ..engine.active import Finished
from ..engine.failures import Cancelled, failure_code
from ..engine.held_jobs import Claim, RunningJob
from ..engine.results import Spent
from ..metrics import WorkerMetrics
from .job_reading import known_job
from .reporting import Reporter
from .rq_base import RqBase
from .writers import Released, Stored, Writers

if TYPE_CHECKING:
    from ..spans import JobSpans

log = logging.getLogger(__name__)


class Outcomes:
    """Ends jobs: tells RQ, front ends, the writers, the counters, and `spans`, which are None without traces."""

    def __init__(
        self, rq: RqBase, reporter: Reporter, writers: Writers, metrics: WorkerMetrics, spans: JobSpans | None = None
    ) -> None:
        self._rq = rq
        self._reporter = reporter
        self._writers = writers
        self._metrics = metrics
        self._spans = spans

    def end(self, events: Mapping[RunningJob, Finished | Stored | Released]) -> None:
        """Ends jobs, or hands them back, as the events of the engine and the writers say.

        Raises torch.AcceleratorError if the device was lost; then none of them has ended.
        """
        for event in events.values():
            if isinstance(event, Stored) and isinstance(event.error, torch.AcceleratorError):
                raise event.error
        stored = {
            running: event.spent
            for running, event in events.items()
            if isinstance(event, Stored) and event.spent is not None
        }
        outcomes = dict(zip(stored, self.succeed(stored), strict=True)) if stored else {}
        for running, event in events.items():
            if isinstance(event, Released):
                cancelled = running.active.cancel
                outcomes[running] = self.fail(running, Cancelled()) if cancelled else self.release(running)
            elif event.error is not None:
                outcomes[running] = self.fail(running, event.error)
        if self._spans is not None:
            for running, outcome in outcomes.items():
                self._spans.left(running.active, outcome, stored.get(running))

    def succeed(self, ended: Mapping[RunningJob, Spent]) -> list[str]:
        """Ends jobs whose images are stored, all in one transaction. Returns their outcomes: `succeeded` or `lost`."""
        tried: set[RunningJob] = set()

        def commit() -> list[bool]:
            with self._rq.transaction(running.rq_job for running in ended) as pipe:
                owned = self._rq.owned(list(ended))
                ours = [running for running, its in zip(ended, owned, strict=True) if its]
                # After an earlier try a job may have ended so that only the reply was lost; or that try never arrived,
                # and the job is another worker's.
                done = [
                    its or (running in tried and not self._rq.was_given_away(running.rq_job))
                    for running, its in zip(ended, owned, strict=True)
                ]
                tried.update(ours)
                if not ours:
                    return done
                for running in ours:
                    self._rq.succeed(pipe, running, {"images": running.active.job.answers})
                    self._reporter.ended(pipe, running, JobState.SUCCEEDED, encode_seconds=ended[running].seconds)
                pipe.execute()
            return done

        owned = self._rq.retry_until_deadline(commit)
        return [self._end(running, JobState.SUCCEEDED, owned=its) for running, its in zip(ended, owned, strict=True)]

    def fail(self, running: RunningJob, error: BaseException) -> str:
        """Ends a job that failed or was cancelled. Returns the outcome: `failed`, `cancelled` or `lost`."""
        code = failure_code(error, running.active.job.trail)
        state = JobState.CANCELLED if code is None else JobState.FAILED

        def commit() -> bool:
            if code is not None and self._rq.owns(running.rq_job, running.execution):
                self._reporter.write(self._rq.connection, running.active, failure=code)
            return self._rq.fail(running.rq_job, running.execution, error, stopped=code is None)

        def announce() -> None:
            with self._rq.connection.pipeline(transaction=False) as pipe:
                self._reporter.ended(pipe, running, state, failure=code)
                pipe.execute()

        owned = self._rq.retry_until_deadline(commit)
        if owned:
            self._rq.retry_until_deadline(announce)
        return self._end(running, state, owned=owned)

    def release(self, claim: Claim) -> str:
        """Hands a job back to its queue, at the front. Returns the outcome, `handed back`."""
        job_id = claim.rq_job.id
        self._rq.retry_until_deadline(lambda: self._rq.hand_back(claim.rq_job, claim.queue, claim.execution))
        self._rq.retry_until_deadline(lambda: self._reporter.requeued(job_id, _name(claim.queue.name).ref))
        self._metrics.retried("drain")
        facts: dict[str, object] = {"job_id": job_id}
        if isinstance(claim, RunningJob):
            facts |= {**claim.active.job.trail, "image_steps": claim.active.image_steps}
        log.info("job handed back", extra=facts)
        return "handed back"

    def refuse(self, claim: Claim, error: Exception) -> None:
        """Ends a claimed job that cannot start, or that was cancelled before it did."""
        job, code = claim.rq_job, failure_code(error, {"job_id": claim.rq_job.id})
        if code is not None:
            self._rq.retry_until_deadline(lambda: self._reporter.not_started(job.id, code))
        if self._rq.retry_until_deadline(lambda: self._rq.fail(job, claim.execution, error, stopped=code is None)):
            self._end_refused(job, claim.queue.name, JobState.CANCELLED if code is None else JobState.FAILED)

    def give_up(self, jobs: Iterable[DataJob]) -> None:
        """Cleans up after jobs that no worker will run any more; RQ has been told that they failed."""
        for job in jobs:
            self._end_refused(job, job.origin, JobState.FAILED)

    def _end_refused(self, job: DataJob, queue: str, outcome: str) -> None:
        self._rq.retry_until_deadline(lambda: self._reporter.changed(job.id))
        self._writers.forget(job.id)
        known, model = known_job(job), _name(queue).model
        self._metrics.refused(known.kind if known else "unknown", model, outcome)
        self._log_end(known, outcome, job_id=job.id, model=model, image_steps=job.resumed_at, seconds=0.0)

    def _end(self, running: RunningJob, outcome: str, *, owned: bool) -> str:
        active = running.active
        if not owned:
            log.warning("a job was given to another worker, or has already ended", extra=active.job.trail)
            self._metrics.retried("lost")
            return "lost"
        if active.has_snapshot:
            self._writers.forget(active.job.id)
        self._metrics.finished(active, outcome)
        self._log_end(active.job, outcome, image_steps=active.image_steps, seconds=round(active.denoise_seconds, 3))
        return outcome

    def _log_end(self, job: Job | None, outcome: str, **facts: object) -> None:
        """Writes a line about a job that has ended, by which the work of its owner can be counted.

        Args:
            job: the job; None if it cannot be read.
            facts: further fields. `image_steps` were done by this and earlier workers, and took so many `seconds`.
        """
        asked: dict[str, object] = {}
        if job is not None:
            asked = {**job.trail, "owner": job.owner, "model": job.model, "version": job.version, "images": job.answers}
        log.info("job ended", extra={**asked, **facts, "worker": self._rq.name, "outcome": outcome})


def _name(queue: str) -> keys.QueueName:
    """Returns the parts of the name of a queue that this worker has claimed from."""
    name = keys.QueueName.read(queue)
    assert name is not None
    return name
