"""The status of a job, read in one round trip from the records of RQ and of the worker.

This is the most frequent request of clients. So RQ's own job object is avoided, which takes several times as long.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from functools import lru_cache
from typing import Any

import redis
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json
from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus

from ..contract import MAX_TIME, FailureCode, Job, JobState, JobStatus, Manifest, Progress, Timesteps
from ..errors import JobNotFound, JobUnreadable
from ..values import Reported
from . import keys
from .capped_reads import MAX_FIELD, MAX_TIMESTEPS, ask_records
from .events import Ending
from .rq_job import DEATHS, EXPIRED_AT, VERSIONS, bound_versions, inflate

STATES: dict[str, JobState] = {
    RqStatus.QUEUED: JobState.QUEUED,
    RqStatus.STARTED: JobState.RUNNING,
    RqStatus.FINISHED: JobState.SUCCEEDED,
    RqStatus.FAILED: JobState.FAILED,
    RqStatus.STOPPED: JobState.CANCELLED,
    RqStatus.CANCELED: JobState.CANCELLED,
}

LONGEST_CACHED = 1 << 15  # bytes of a job as JSON; nearly all have less than a tenth
_FIELDS = ("data", "status", "started_at", "ended_at", DEATHS, EXPIRED_AT, VERSIONS)
_TIMESTEPS: TypeAdapter[Timesteps] = TypeAdapter(Timesteps, config=ConfigDict(strict=True, allow_inf_nan=False))


class _Meta(Reported):
    """The metadata of a job in RQ's record."""

    request_hash: str


def ask_statuses(client: Any, job_ids: Sequence[str], *, timesteps: bool = False) -> Any:
    """Sends the command, or adds it to a pipeline, whose answer is a list of what `read_status` reads."""
    texts = {keys.progress: MAX_FIELD} | ({keys.timesteps: MAX_TIMESTEPS} if timesteps else {})
    records = [(RqJob.key_for(job_id), *(key(job_id) for key in texts)) for job_id in job_ids]
    return ask_records(client, records, *_FIELDS, sizes=[*texts.values()])


def read_status(fields: Sequence[Any], reports: Sequence[Any], *, result_ttl: int) -> JobStatus:
    """Returns the status of a job; position and ETA of a queued job are missing.

    Args:
        fields: the fields of RQ's record.
        reports: the worker's progress and, if they were asked for, its timesteps.
        result_ttl: the time that images are kept, in seconds.

    Raises:
        JobNotFound: if there is no such job.
        JobUnreadable: if it was written by another version or by somebody else.
    """
    if fields[0] is None:
        raise JobNotFound
    try:
        return _parse(fields, reports, result_ttl)
    except JobUnreadable:
        raise
    except Exception as error:  # any error of a parser, if somebody else wrote the record
        raise JobUnreadable("the queue holds an entry that is not a job of difuso") from error


def request_hash_of(client: redis.Redis, job_id: str) -> str:
    """Returns the hash of the request that a job was accepted from; raises JobUnreadable if its record has none."""
    (((meta,), _),) = ask_records(client, [[RqJob.key_for(job_id)]], "meta")
    try:
        return _Meta.model_validate_json(meta or b"").request_hash
    except ValidationError as error:
        raise JobUnreadable("the queued job has no hash of its request") from error


def needs_uploads(client: redis.Redis, job_id: str, *, result_ttl: float) -> bool:
    """Returns whether the uploads of a job are still needed, by the worker or to show the ends of an interpolation."""
    (((status, ended), _),) = ask_records(client, [[RqJob.key_for(job_id)]], "status", "ended_at")
    state = STATES.get((status or b"").decode(errors="replace"))
    if state in (JobState.QUEUED, JobState.RUNNING):
        return True
    ended_at = seconds_of(ended) if state is JobState.SUCCEEDED else None
    return ended_at is not None and time.time() - ended_at < result_ttl


def seconds_of(stamp: bytes | None) -> float | None:
    """Converts a time of RQ into seconds since the epoch; None if it is absent or invalid."""
    try:
        return _seconds(stamp)
    except ValueError:
        return None


def _parse(fields: Sequence[Any], reports: Sequence[Any], result_ttl: int) -> JobStatus:
    data, rq_status, started, ended, deaths, expired, versions = fields
    report, timesteps = (*reports, None)[:2]
    job = _parse_job(data).bound_to(bound_versions(versions))
    state = STATES.get((rq_status or b"").decode(), JobState.QUEUED)
    started_at, ended_at = _seconds(started), _seconds(ended)
    progress = Progress() if report is None else Progress.model_validate_json(report)
    is_attempted = state is not JobState.QUEUED and started_at is not None
    status = JobStatus(
        job=job,
        state=state,
        progress=progress,
        timesteps=None if timesteps is None else _check_timesteps(timesteps),
        attempts=int(deaths or 0) + is_attempted,
        eta_seconds=progress.eta_seconds if state is JobState.RUNNING else None,
        started_at=started_at,
        ended_at=ended_at if state.is_terminal else None,
    )
    return _complete(status, result_ttl, expired=float(expired) if expired else None)


def status_at_end(job: Job, ending: Ending, *, result_ttl: int) -> JobStatus:
    """Returns the status of a job whose end was announced, without its timesteps."""
    facts = dict(ending)
    return _complete(JobStatus(job=job.bound_to(facts.pop("versions")), **facts), result_ttl)


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
        expires_at = max(0.0, expired if expires_at is None else min(expires_at, expired))
    return replace(
        status,
        progress=progress,
        expires_at=expires_at,
        failure=(progress.failure or FailureCode.WORKER_LOST) if state is JobState.FAILED else None,
    )


# These two functions take most of the time for parsing, so their results are cached. Long jobs would fill the memory.


def _parse_job(data: bytes) -> Job:
    call = inflate(data)
    return _job_of(call) if len(call) <= LONGEST_CACHED else _job_of.__wrapped__(call)


@lru_cache(maxsize=256)
def _job_of(call: bytes) -> Job:
    """Returns the job in RQ's record of a call: [function, instance, arguments, keyword arguments]."""
    return Job.decode(from_json(call)[3].get("job"))


@lru_cache(maxsize=8)
def _check_timesteps(text: bytes) -> str:
    """Returns the list as text: it may have thousands of entries, and becomes JSON again in the answer."""
    _TIMESTEPS.validate_json(text)
    return text.decode()


def _seconds(stamp: bytes | None) -> float | None:
    """Converts a time of RQ into seconds since the epoch; refuses times that datetime cannot represent."""
    if not stamp:
        return None
    seconds = datetime.fromisoformat(stamp.decode()).timestamp()
    if not 0 <= seconds <= MAX_TIME:
        raise ValueError("the time is out of range")
    return seconds
