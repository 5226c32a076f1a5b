"""From a complete request to its answer: queue the job, wait as long as the caller likes, give the pictures."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from jobs.contract import Job, JobState, JobStatus, new_job
from jobs.errors import JobNotFound, JobsError, QueueUnavailable
from jobs.images.fitting import FittedImage
from jobs.kinds.base import Prepared, SamplingQuery
from jobs.limits import Limits
from jobs.tracing import traceparent
from jobs.workers import reports_for

from .admission import admit, check_served, check_share, check_size, job_timeout
from .answers import accepted, pictures
from .api_keys import ApiKey
from .deps import (
    FormatDep,
    IdempotencyKey,
    MetricsDep,
    PreferenceDep,
    QueueDep,
    SettingsDep,
    StoreDep,
    UrgencyDep,
    WatcherDep,
)
from .errors import Overloaded
from .formats import Format
from .links import JOB_LINKS
from .middleware import CLIENT_GONE
from .views import JobView
from .watching import ClientGone

log = logging.getLogger(__name__)

# Keys become job ids, so that a repeated request finds its job without anything else to remember.
KEY_NAMESPACE = uuid.UUID("b7b5b1de-6e0c-5d43-9a0f-0c7cf3a8f6c1")

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "What Accept asks for: " + "; ".join(f"{form} is {form.words}" for form in reversed(Format)),
        "content": {form: {} for form in Format},
        "links": JOB_LINKS,
    },
    202: {"description": "The job, which goes on", "model": JobView, "links": JOB_LINKS},
}


@dataclass(frozen=True)
class Submission:
    """What a request brings along whatever it asks for, and what it takes to answer it."""

    request: Request
    settings: SettingsDep
    queue: QueueDep
    store: StoreDep
    watcher: WatcherDep
    metrics: MetricsDep
    form: FormatDep
    preference: PreferenceDep
    urgency: UrgencyDep
    idempotency_key: IdempotencyKey = None

    async def answer(self, model: str, query: SamplingQuery, prepared: Prepared) -> Response:
        """Queues the job and waits for its images; answers 202 with the job where that takes too long.

        Args:
            query: as it was sent, to recognise it when it is repeated.
        """
        job = self._job(model, prepared)
        request_hash = query.request_hash(job.kind, [picture.sha256 for picture in job.pictures])
        new, status = await run_in_threadpool(self._submit, job, request_hash, prepared.images)
        if new:
            self.metrics.job_accepted(job.kind, job.model)
            log.info("job accepted", extra={"job_id": job.id, "model": job.model, "image_steps": job.image_steps})
        try:
            status = await self._wait(status)
        except ClientGone:
            if self.idempotency_key is None:  # whoever has a key can come back for the images
                await run_in_threadpool(self._cancel, job.id)
            return Response(status_code=CLIENT_GONE)
        if new and status.ended_at is not None:
            self.metrics.job_awaited(status.ended_at - job.accepted_at)
        return await self._respond(status)

    async def _wait(self, status: JobStatus) -> JobStatus:
        """Where the job stands when it has ended, or the time is over that the caller would wait."""
        if self.preference.seconds <= 0:
            return status
        return await self.watcher.wait(status, self.request, seconds=self.preference.seconds)

    async def _respond(self, status: JobStatus) -> Response:
        done = self.preference.seconds > 0 and status.state.is_terminal
        try:
            renderers = self.request.state.renderers
            response = await pictures(status, self.store, self.form, renderers) if done else accepted(status)
        except Overloaded:  # the pictures are there all the same
            response = accepted(status)
        if self.preference.applied:
            response.headers["Preference-Applied"] = self.preference.applied
        return response

    def _job(self, model: str, prepared: Prepared) -> Job:
        return new_job(
            model,
            prepared,
            id=self._job_id(),
            urgency=self.urgency,
            timeout=job_timeout(prepared.task.image_steps(prepared.params), max_wait=self.settings.max_wait),
            owner=self._caller.name if self._caller else None,
            request_id=self.request.state.request_id,
            traceparent=traceparent(),
        )

    @property
    def _caller(self) -> ApiKey | None:
        caller: ApiKey | None = self.request.state.caller
        return caller

    def _job_id(self) -> str:
        """A new one, or the one of all requests of this caller with this Idempotency-Key."""
        if self.idempotency_key is None:
            return str(uuid.uuid4())
        namespace = uuid.uuid5(KEY_NAMESPACE, self._caller.name) if self._caller else KEY_NAMESPACE
        return str(uuid.uuid5(namespace, self.idempotency_key))

    def _submit(self, job: Job, request_hash: str, images: Sequence[FittedImage]) -> tuple[bool, JobStatus]:
        """Queues the job if it may; returns whether it is new, and where it stands."""
        if not (self.idempotency_key and self._exists(job.id)):  # a repeated request waits for its own job only
            limits = self._caller.limits if self._caller else Limits()
            check_size(job.image_steps, limits)
            check_served(job.model, reports_for(job.model, self.queue.workers()))
            backlog = self.queue.backlog(job.model)
            admit(backlog, max_wait=self.settings.max_wait, max_jobs=self.settings.max_jobs)
            check_share(self.queue.reserve(job, limits), job.image_steps, limits, rate=backlog.rate)
            for image in images:  # first, so that no job is ever without them
                self.store.write_upload(job.id, image.png)
        new = self.queue.submit(job, request_hash=request_hash)
        try:
            return new, self.queue.status(job.id)
        except QueueUnavailable:
            if not new:
                raise
            return new, JobStatus(job=job, state=JobState.QUEUED)  # accepted all the same: the caller must learn the id

    def _exists(self, job_id: str) -> bool:
        try:
            self.queue.status(job_id)
        except JobNotFound:
            return False
        return True

    def _cancel(self, job_id: str) -> None:
        try:
            self.queue.cancel(job_id)
        except JobsError:
            log.warning("a job goes on that nobody waits for: it could not be cancelled", extra={"job_id": job_id})


SubmissionDep = Annotated[Submission, Depends()]
