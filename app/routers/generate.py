"""POST /generate: pictures from noise."""

from __future__ import annotations

import logging
import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from jobs.contract import Job, JobKind, JobState, JobStatus
from jobs.errors import JobNotFound, JobsError, QueueUnavailable
from jobs.queue import JobQueue
from jobs.workers import reports_for

from ..admission import admit, check_served, job_timeout
from ..answers import accepted, pictures
from ..deps import (
    NO_BODY,
    SINGLE_PARAMETERS,
    CatalogDep,
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
from ..middleware import CLIENT_GONE
from ..negotiation import Format
from ..parameters import SamplingQuery, choose_model, fill_in
from ..settings import ApiSettings
from ..views import JobView
from ..watching import ClientGone

log = logging.getLogger(__name__)
router = APIRouter(tags=["generate"])

# Keys become job ids, so that a repeated request finds its job without anything else to remember.
KEY_NAMESPACE = uuid.UUID("b7b5b1de-6e0c-5d43-9a0f-0c7cf3a8f6c1")


ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The pictures, in the format that Accept asks for", "content": {form: {} for form in Format}},
    202: {"description": "The job, which goes on", "model": JobView},
}


@router.post(
    "/generate",
    summary="Make pictures",
    dependencies=[SINGLE_PARAMETERS, NO_BODY],
    response_class=Response,
    responses=ANSWERS,
)
async def generate(
    request: Request,
    query: Annotated[SamplingQuery, Query()],
    settings: SettingsDep,
    catalog: CatalogDep,
    queue: QueueDep,
    store: StoreDep,
    watcher: WatcherDep,
    metrics: MetricsDep,
    form: FormatDep,
    preference: PreferenceDep,
    urgency: UrgencyDep,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Queues the job and waits for its pictures; answers 202 with the job where that takes too long."""
    model = choose_model(query.model, catalog)
    params = fill_in(query, model)
    job = Job(
        id=str(uuid.uuid4() if idempotency_key is None else uuid.uuid5(KEY_NAMESPACE, idempotency_key)),
        kind=JobKind.GENERATE,
        model=model.name,
        params=params,
        urgency=urgency,
        accepted_at=time.time(),
        timeout=job_timeout(params, max_wait=settings.max_wait),
    )
    keyed = idempotency_key is not None
    request_hash = query.request_hash(job.kind)
    new, status = await run_in_threadpool(_submit, queue, job, request_hash, keyed=keyed, settings=settings)
    if new:
        metrics.job_accepted(job.kind, job.model)
    if preference.seconds > 0:
        try:
            status = await watcher.wait(status, request, seconds=preference.seconds)
        except ClientGone:
            if not keyed:  # whoever has a key can come back for the pictures
                await run_in_threadpool(_cancel, queue, job.id)
            return Response(status_code=CLIENT_GONE)
    if new and status.ended_at is not None:
        metrics.job_awaited(status.ended_at - job.accepted_at)
    done = preference.seconds > 0 and status.state.is_terminal
    response = await run_in_threadpool(pictures, status, store, form) if done else accepted(status)
    if preference.applied:
        response.headers["Preference-Applied"] = preference.applied
    return response


def _submit(
    queue: JobQueue, job: Job, request_hash: str, *, keyed: bool, settings: ApiSettings
) -> tuple[bool, JobStatus]:
    """Queues the job if it may; returns whether it is new, and where it stands."""
    if not (keyed and _exists(queue, job.id)):  # a repeated request waits for nothing but its own job
        check_served(job.model, reports_for(job.model, queue.workers()))
        admit(queue.backlog(job.model), max_wait=settings.max_wait, max_jobs=settings.max_jobs)
    new = queue.submit(job, request_hash=request_hash)
    try:
        return new, queue.status(job.id)
    except QueueUnavailable:
        if not new:
            raise
        return new, JobStatus(job=job, state=JobState.QUEUED)  # accepted all the same: the caller must learn the id


def _exists(queue: JobQueue, job_id: str) -> bool:
    try:
        queue.status(job_id)
    except JobNotFound:
        return False
    return True


def _cancel(queue: JobQueue, job_id: str) -> None:
    try:
        queue.cancel(job_id)
    except JobsError:
        log.warning("job %s goes on, though nobody waits for it: it could not be cancelled", job_id)
