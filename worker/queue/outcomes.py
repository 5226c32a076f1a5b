"""Ends jobs: in RQ and in the backlog, and wakes the clients that wait, all as one script that can be repeated.

Nothing is written for a job that has been given to another worker meanwhile: that worker ends it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import torch

from difuso.jobs.contract import FailureCode, Job, JobState, Progress
from difuso.jobs.redis.job_records import JobRecord
from difuso.jobs.redis.usage import Used

from ..engine.active import ActiveJob, Finished
from ..engine.failures import Cancelled, JobRefused, failure_code
from ..engine.held_jobs import Claim, RunningJob
from ..engine.results import Spent
from ..metrics import WorkerMetrics
from .job_reading import known_job
from .reporting import Reporter, timesteps_of
from .rq_base import RqBase
from .rq_scripts import End
from .writers import Released, Stored, Writers

if TYPE_CHECKING:
    from ..spans import JobSpans

log = logging.getLogger(__name__)

ANSWER_BYTES = 1 << 16  # of a result that goes through Redis; larger ones are read from the store


class Outcomes:
    """Ends jobs: informs RQ, front ends, the writers, the counters, and `spans`, which are None without traces."""

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
        at = round(time.time(), 6)  # as RQ's record holds it, so that who waited and who asks later see the same
        ends = {
            running: self._end_of(running, event, at=at)
            for running, event in events.items()
            if not isinstance(event, Released) or running.active.cancel
        }
        owned = self._rq.retry_until_deadline(lambda: self._rq.end([*ends.values()], at=at)) if ends else []
        outcomes = {
            running: self._ended(running, ends[running].state, owned=its)
            for running, its in zip(ends, owned, strict=True)
        }
        outcomes |= {running: self.release(running) for running in events if running not in ends}
        if self._spans is not None:
            for running, outcome in outcomes.items():
                event = events[running]
                self._spans.left(running.active, outcome, event.spent if isinstance(event, Stored) else None)

    def _end_of(self, running: RunningJob, event: Finished | Stored | Released, *, at: float) -> End:
        """Returns the end of a job whose images are stored, or that failed or was cancelled."""
        result: Mapping[str, int] | str
        versions: tuple[str, ...] = ()
        if isinstance(event, Stored) and event.spent is not None:
            if event.spent.versions != running.active.job.versions:  # another attempt was first, before it was bound
                versions = event.spent.versions
                running.active.job = running.active.job.bound_to(versions)
            state, result = JobState.SUCCEEDED, {"images": running.active.job.answers}
            ending = self._reporter.ending(running, state, at=at, encode_seconds=event.spent.seconds)
        else:
            error = Cancelled() if isinstance(event, Released) else event.error
            assert error is not None
            code = failure_code(error, running.active.job.trail)
            state, result = _state(code), ascii(error)  # its message may hold characters that cannot be encoded
            ending = self._reporter.ending(running, state, at=at, failure=code)
        return End(
            running,
            state,
            result,
            progress=ending.progress.model_dump_json(),
            timesteps=None if running.active.is_announced else timesteps_of(running.active),
            message=ending.model_dump_json(),
            manifest=_answer(running, event),
            versions=versions,
            used=_used(running.active, event.spent if isinstance(event, Stored) else None),
        )

    def release(self, claim: Claim) -> str:
        """Hands a job back to its queue, at the front. Returns the outcome, `handed back`."""
        job_id = claim.record.id
        self._rq.retry_until_deadline(lambda: self._rq.hand_back(claim))
        self._rq.retry_until_deadline(lambda: self._reporter.requeued(job_id, claim.queue.ref))
        self._metrics.retried("drain")
        facts: dict[str, object] = {"job_id": job_id}
        if isinstance(claim, RunningJob):
            facts |= {**claim.active.job.trail, "image_steps": claim.active.image_steps}
        log.info("job handed back", extra=facts)
        return "handed back"

    def refuse(self, claim: Claim, error: Exception) -> None:
        """Ends a claimed job that cannot start, or that was cancelled before it did."""
        code, at = failure_code(error, {"job_id": claim.record.id}), time.time()
        reason = str(error) if isinstance(error, JobRefused) else None
        progress = None if code is None else Progress(failure=code, reason=reason).model_dump_json()
        used = Used(image_steps=claim.record.resumed_at)
        end = End(claim, _state(code), ascii(error), progress, used=used)
        if self._rq.retry_until_deadline(lambda: self._rq.end([end], at=at)) == [True]:
            self._ended_unstarted(claim.record, end.state)

    def give_up(self, records: Iterable[JobRecord]) -> None:
        """Cleans up after jobs that no worker will run any more; RQ knows that they failed."""
        for record in records:
            self._ended_unstarted(record, JobState.FAILED)

    def _ended_unstarted(self, record: JobRecord, outcome: str) -> None:
        self._writers.forget(record.id)
        known, model = known_job(record), record.queue.model
        self._metrics.refused(known.kind if known else "unknown", model, outcome)
        facts = {"job_id": record.id, "model": model, "image_steps": record.resumed_at}
        self._log_end(known, outcome, **facts, seconds=0.0, device_seconds=0.0)

    def _ended(self, running: RunningJob, outcome: str, *, owned: bool) -> str:
        active = running.active
        if not owned:
            log.warning("a job was given to another worker, or has already ended", extra=active.job.trail)
            self._metrics.retried("lost")
            return "lost"
        if active.has_snapshot:
            self._writers.forget(active.job.id)
        self._metrics.finished(active, outcome)
        seconds = {"seconds": round(active.denoise_seconds, 3), "device_seconds": round(active.device_seconds, 6)}
        self._log_end(active.job, outcome, image_steps=active.image_steps, **seconds)
        return outcome

    def _log_end(self, job: Job | None, outcome: str, **facts: object) -> None:
        """Writes a line about a job that has ended, by which the work of its owner can be counted.

        Args:
            job: the job; None if it cannot be read.
            facts: further fields. `image_steps` were done by this and earlier workers, and took so many `seconds`, of
                which the share of this job are `device_seconds`.
        """
        asked: dict[str, object] = {}
        if job is not None:
            asked = {**job.trail, "owner": job.owner, "model": job.model, "version": job.version, "images": job.answers}
        log.info("job ended", extra={**asked, **facts, "worker": self._rq.name, "outcome": outcome})


def _answer(running: RunningJob, event: Finished | Stored | Released) -> bytes | None:
    """Returns the result of a job that a request waits for, if it is small."""
    if not (running.record.is_awaited and isinstance(event, Stored) and event.spent is not None):
        return None
    manifest = event.spent.manifest
    return manifest if manifest is not None and len(manifest) <= ANSWER_BYTES else None


def _used(active: ActiveJob, spent: Spent | None) -> Used:
    """Returns what a job has used; `spent` if its images are stored, which count only then."""
    device_us = round(1e6 * active.device_seconds)
    if spent is None:
        return Used(image_steps=active.image_steps, device_us=device_us)
    images, stored = active.job.answers, spent.stored_bytes
    return Used(images=images, image_steps=active.image_steps, device_us=device_us, stored_bytes=stored)


def _state(code: FailureCode | None) -> JobState:
    return JobState.CANCELLED if code is None else JobState.FAILED
