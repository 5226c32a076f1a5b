"""Where a job stands, read in one look at what RQ and the worker have written.

Clients ask for nothing more often. RQ's own job object, which takes several times as long to make, is left out of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any

import redis
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import from_json
from rq.job import Job as RqJob
from rq.job import JobStatus as RqStatus

from . import keys
from .bounded import MAX_FIELD, MAX_TIMESTEPS, ask_record
from .contract import MAX_TIME, FailureCode, Job, JobState, JobStatus, Progress, Timesteps
from .errors import JobNotFound, JobUnreadable
from .rq_job import DEATHS, inflate
from .values import Reported

STATES: dict[str, JobState] = {
    RqStatus.QUEUED: JobState.QUEUED,
    RqStatus.STARTED: JobState.RUNNING,
    RqStatus.FINISHED: JobState.SUCCEEDED,
    RqStatus.FAILED: JobState.FAILED,
    RqStatus.STOPPED: JobState.CANCELLED,
    RqStatus.CANCELED: JobState.CANCELLED,
}

_FIELDS = ("data", "status", "started_at", "ended_at", DEATHS)
_TIMESTEPS: TypeAdapter[Timesteps] = TypeAdapter(Timesteps, config=ConfigDict(strict=True, allow_inf_nan=False))


class _Meta(Reported):
    """What else difuso has RQ keep of a job."""

    request_hash: str


def ask_status(pipe: Any, job_id: str) -> None:
    """Adds the command to a pipeline whose answer `read_status` takes."""
    reports = {keys.progress(job_id): MAX_FIELD, keys.timesteps(job_id): MAX_TIMESTEPS}
    ask_record(pipe, RqJob.key_for(job_id), *_FIELDS, texts=reports)


def read_status(fields: Sequence[Any], reports: Sequence[Any], *, result_ttl: int) -> JobStatus:
    """The status of a job, but for the outlook of one that is queued.

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
    except Exception as error:  # whatever a parser raises at what somebody else has written
        raise JobUnreadable("the queue holds something that is no job of difuso") from error


def ask_request_hash(pipe: Any, job_id: str) -> None:
    """Adds the command to a pipeline of whose answer `read_request_hash` takes the first part."""
    ask_record(pipe, RqJob.key_for(job_id), "meta")


def read_request_hash(fields: Sequence[Any]) -> str:
    """The hash of the request that a job was accepted from.

    Raises:
        JobUnreadable: if it is not there.
    """
    try:
        return _Meta.model_validate_json(fields[0] or b"").request_hash
    except ValidationError as error:
        raise JobUnreadable("the queued job does not say from which request it is") from error


def needs_uploads(client: redis.Redis, job_id: str, *, result_ttl: float) -> bool:
    """Whether pictures that came with a job may be read again: to start it, or to show between which its own lie.

    Args:
        result_ttl: seconds that its own are kept.
    """
    with client.pipeline(transaction=False) as pipe:
        ask_record(pipe, RqJob.key_for(job_id), "status", "ended_at")
        (((status, ended), _),) = pipe.execute()
    if status in (RqStatus.QUEUED.encode(), RqStatus.STARTED.encode()):
        return True
    ended_at = seconds_of(ended)
    return ended_at is not None and time.time() - ended_at < result_ttl


def seconds_of(stamp: bytes | None) -> float | None:
    """A time as RQ writes it, in seconds since the epoch; None if it is none."""
    try:
        return _seconds(stamp)
    except ValueError:
        return None


def _parse(fields: Sequence[Any], reports: Sequence[Any], result_ttl: int) -> JobStatus:
    data, rq_status, started, ended, deaths = fields
    report, timesteps = reports
    job = _parse_job(data)
    state = STATES.get((rq_status or b"").decode(), JobState.QUEUED)
    started_at, ended_at = _seconds(started), _seconds(ended)
    progress = Progress() if report is None else Progress.model_validate_json(report)
    if state is JobState.SUCCEEDED:  # it has done all of its steps, whatever its last report said
        progress = progress.model_copy(update={"image_steps": job.image_steps})
    is_attempted = state is not JobState.QUEUED and started_at is not None
    return JobStatus(
        job=job,
        state=state,
        progress=progress,
        timesteps=None if timesteps is None else _check_timesteps(timesteps),
        attempts=int(deaths or 0) + is_attempted,
        eta_seconds=progress.eta_seconds if state is JobState.RUNNING else None,
        started_at=started_at,
        ended_at=ended_at if state.is_terminal else None,
        expires_at=ended_at + result_ttl if state is JobState.SUCCEEDED and ended_at else None,
        failure=(progress.failure or FailureCode.WORKER_LOST) if state is JobState.FAILED else None,
    )


# The same bytes mean the same for ever, so these two may remember them; they are most of what there is to parse.


@lru_cache(maxsize=256)
def _parse_job(data: bytes) -> Job:
    """The job in RQ's record of a call: [function, instance, arguments, keyword arguments]."""
    return Job.decode(from_json(inflate(data))[3].get("job"))


@lru_cache(maxsize=8)
def _check_timesteps(text: bytes) -> str:
    """The list as it was written: it may have thousands of entries, and becomes JSON again in the answer."""
    _TIMESTEPS.validate_json(text)
    return text.decode()


def _seconds(stamp: bytes | None) -> float | None:
    """Since the epoch; a time that no calendar of ours can show is refused here."""
    if not stamp:
        return None
    seconds = datetime.fromisoformat(stamp.decode()).timestamp()
    if not 0 <= seconds <= MAX_TIME:
        raise ValueError("not of this millennium")
    return seconds
