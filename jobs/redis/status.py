"""The status of a job, read in one round trip from the records of RQ and of the worker.

This is the most frequent request of clients. So RQ's own job object is avoided, which takes several times as long.
"""

import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import redis
from pydantic import ValidationError
from pydantic_core import from_json
from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus

from ..contract import FailureCode, Job, JobState, Manifest, Progress
from ..errors import JobNotFound, JobUnreadable
from ..values import Reported
from . import keys
from .events import Ending
from .job_records import DEATHS, EXPIRED_AT, VERSIONS, WEBHOOK, bound_versions, seconds_of
from .webhooks import Webhook

STATES: dict[str, JobState] = {
    RqStatus.QUEUED: JobState.QUEUED,
    RqStatus.STARTED: JobState.RUNNING,
    RqStatus.FINISHED: JobState.SUCCEEDED,
    RqStatus.FAILED: JobState.FAILED,
    RqStatus.STOPPED: JobState.CANCELLED,
    RqStatus.CANCELED: JobState.CANCELLED,
}

LONGEST_CACHED = 1 << 15  # bytes of a job as JSON; nearly all have less than a tenth
_FIELDS = ("data", "status", "started_at", "ended_at", DEATHS, EXPIRED_AT, VERSIONS, WEBHOOK)


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """A job and its state. It is never stored, so its values are not validated."""

    job: Job
    state: JobState
    progress: Progress = field(default_factory=Progress)
    # the timesteps of the network calls, in their order, as a JSON list; None until a worker has started, or if they
    # were not asked for
    timesteps: str | None = None
    position: int | None = None  # the number of jobs that will be claimed before this one; None unless it is queued
    attempts: int = 0  # number of workers that died running it, and of the one that runs it or ended it
    eta_seconds: float | None = None  # the time until it is done; None if the speed is unknown
    # started_at, ended_at: times in seconds since the epoch; None before
    started_at: float | None = None
    ended_at: float | None = None
    # the time when its images are or were deleted, in seconds since the epoch; of a job that has not succeeded, only if
    # the client had them deleted
    expires_at: float | None = None
    failure: FailureCode | None = None  # the reason why it failed; None unless it has
    webhook: Webhook | None = None  # what is called at its end, if anything is
    result: Manifest | None = None  # its small result, if that came with the news of its end


class _Meta(Reported):
    """The metadata of a job in RQ's record."""

    request_hash: str


def ask_statuses(
    client: redis.Redis, job_ids: Sequence[str], *, timesteps: bool = False
) -> list[tuple[list[bytes | None], list[bytes | None]]]:
    """Returns what `read_status` reads, for each of the jobs, in one round trip."""
    texts = (keys.progress, keys.timesteps) if timesteps else (keys.progress,)
    with client.pipeline(transaction=False) as pipe:
        for job_id in job_ids:
            pipe.hmget(RqJob.key_for(job_id), _FIELDS)
            pipe.mget([key(job_id) for key in texts])
        answers = pipe.execute()
    return list(zip(answers[::2], answers[1::2], strict=True))


def read_status(fields: Sequence[Any], reports: Sequence[Any], *, result_ttl: int) -> JobStatus:
    """Returns the status of a job from what `ask_statuses` returns; position and ETA of a queued job are missing.

    Raises JobNotFound if there is no such job, and JobUnreadable if its record is damaged.
    """
    if fields[0] is None:
        raise JobNotFound
    try:
        return _parse(fields, reports, result_ttl)
    except JobUnreadable:
        raise
    except Exception as error:  # any error of a parser
        raise JobUnreadable("the queue holds an entry that is not a job of difuso") from error


def request_hash_in(meta: bytes) -> str:
    """Returns the hash of the request that a job was accepted from; raises JobUnreadable if its metadata has none."""
    try:
        return _Meta.model_validate_json(meta).request_hash
    except ValidationError as error:
        raise JobUnreadable("the queued job has no hash of its request") from error


def needs_uploads(client: redis.Redis, job_id: str, *, result_ttl: float) -> bool:
    """Returns whether the uploads of a job are still needed, by the worker or to show the ends of an interpolation."""
    fields: Any = client.hmget(RqJob.key_for(job_id), ["status", "ended_at"])
    status, ended = fields
    state = STATES.get((status or b"").decode())
    if state in (JobState.QUEUED, JobState.RUNNING):
        return True
    ended_at = seconds_of(ended) if state is JobState.SUCCEEDED else None
    return ended_at is not None and time.time() - ended_at < result_ttl


def _parse(fields: Sequence[Any], reports: Sequence[Any], result_ttl: int) -> JobStatus:
    data, rq_status, started, ended, deaths, expired, versions, webhook = fields
    report, timesteps = (*reports, None)[:2]
    call = zlib.decompress(data)
    read_job = _job_of if len(call) <= LONGEST_CACHED else _job_of.__wrapped__
    job = read_job(call).bound_to(bound_versions(versions))
    state = STATES.get((rq_status or b"").decode(), JobState.QUEUED)
    started_at, ended_at = seconds_of(started), seconds_of(ended)
    progress = Progress() if report is None else Progress.model_validate_json(report)
    is_attempted = state is not JobState.QUEUED and started_at is not None
    status = JobStatus(
        job=job,
        state=state,
        progress=progress,
        timesteps=None if timesteps is None else timesteps.decode(),
        attempts=int(deaths or 0) + is_attempted,
        eta_seconds=progress.eta_seconds if state is JobState.RUNNING else None,
        started_at=started_at,
        ended_at=ended_at if state.is_terminal else None,
        webhook=None if webhook is None else Webhook.model_validate_json(webhook),
    )
    return _complete(status, result_ttl, expired=float(expired) if expired else None)


def status_at_end(before: JobStatus, ending: Ending, manifest: bytes | None, *, result_ttl: int) -> JobStatus:
    """Returns the status of a job whose end was announced, perhaps with its manifest, without its timesteps.

    `before` is a status from before the end.
    """
    facts = dict(ending)
    result = None if manifest is None else Manifest.read(manifest)
    job = before.job.bound_to(facts.pop("versions"))
    return _complete(JobStatus(job=job, webhook=before.webhook, result=result, **facts), result_ttl)


def status_of_result(manifest: Manifest, *, result_ttl: int) -> JobStatus:
    """Returns the status of a job that has this result, without the times of its run, which only Redis has."""
    status = JobStatus(job=manifest.job, state=JobState.SUCCEEDED, ended_at=manifest.finished_at)
    return _complete(status, result_ttl)


def _complete(status: JobStatus, result_ttl: int, *, expired: float | None = None) -> JobStatus:
    """Adds what follows from the other facts; `expired` is the time at which the client had the images deleted."""
    state, progress, ended_at = status.state, status.progress, status.ended_at
    if state is JobState.SUCCEEDED:  # all its steps are done, even if the last report came before
        progress = progress.model_copy(update={"image_steps": status.job.image_steps})
    expires_at = ended_at + result_ttl if state is JobState.SUCCEEDED and ended_at else None
    if expired is not None and state.is_terminal:
        expires_at = expired if expires_at is None else min(expires_at, expired)
    return replace(
        status,
        job=status.job.found_with(progress.found),
        progress=progress,
        expires_at=expires_at,
        failure=(progress.failure or FailureCode.WORKER_LOST) if state is JobState.FAILED else None,
    )


@lru_cache(maxsize=256)
def _job_of(call: bytes) -> Job:
    """Returns the job in RQ's record of a call: [function, instance, arguments, keyword arguments].

    This takes most of the time of parsing, so its results are cached. Long jobs would fill the memory.
    """
    return Job.decode(from_json(call)[3].get("job"))
