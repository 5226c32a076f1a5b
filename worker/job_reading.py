"""From RQ's job to ours: checked, with its snapshot if an earlier worker left one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from rq.job import Job as RqJob
from torch import Tensor

from jobs.contract import TASK, Job, Picture
from jobs.errors import JobUnreadable
from jobs.store import ResultStore
from model.images import from_png

from .active import ActiveJob, activate
from .runner import Runner


def read_job(rq_job: RqJob, runners: Mapping[str, Runner], store: ResultStore, *, attempt: str) -> ActiveJob:
    """Makes a claimed job ready to step.

    Raises:
        JobUnreadable: if it is none of ours, or for a model that this worker does not have.
        PlanError: if the model has no such run.
        StoreUnavailable: if its snapshot or the pictures that came with it cannot be read.
    """
    job = _decode(rq_job)
    if job.model not in runners:
        raise JobUnreadable(f"this worker has no model {job.model}")
    sent = [_sent(job, picture, store) for picture in job.pictures]
    return activate(job, runners[job.model], sent=sent, attempt=attempt, snapshot=store.snapshot(job.id))


def _decode(rq_job: RqJob) -> Job:
    """The job as our contract has it. The stored function name is compared, never imported."""
    if rq_job.func_name != TASK:
        raise JobUnreadable("the queue holds something that is no job of difuso")
    job = Job.decode(rq_job.kwargs.get("job"))
    if job.id != rq_job.id:
        raise JobUnreadable("the job claims to be another")
    return job


def _sent(job: Job, picture: Picture, store: ResultStore) -> Tensor:
    """A picture that came with the job, shape (C, H, W)."""
    png = store.upload(job.id, picture.sha256)
    if png is None or hashlib.sha256(png).hexdigest() != picture.sha256:
        raise JobUnreadable("a picture that came with the job is gone or damaged")
    return from_png(png)
