"""Reads a job: checks it, and fetches its uploads and the snapshot that an earlier worker may have left."""

import hashlib
import re

from torch import Tensor

from difuso.jobs.contract import TASK, Job
from difuso.jobs.errors import JobUnreadable
from difuso.jobs.redis.job_records import JobRecord
from difuso.jobs.store.result_store import ResultStore
from difuso.model.conditions import SHA256
from difuso.model.images import from_file

from ..engine.active import ActiveJob, activate
from ..engine.served_models import Models


class ModelIsLoading(Exception):
    """The job needs a model that this worker has not loaded yet, such as that of the second stage of a cascade."""

    def __init__(self, ref: str) -> None:
        super().__init__(f"this worker has not loaded {ref} yet")
        self.ref = ref


class StoreNeeded(Exception):
    """The job cannot be read without the store, which has uploads or a snapshot of it."""


class ModelIsMissing(JobUnreadable):
    """The job needs a version of a model that this worker does not hold; another worker may hold it."""

    def __init__(self, job: Job, ref: str) -> None:
        super().__init__(f"this worker does not hold {ref}")
        self.job, self.ref = job, ref


def read_job(record: JobRecord, models: Models, store: ResultStore | None, *, attempt: str) -> ActiveJob:
    """Makes a claimed job ready to step.

    Args:
        models: the models of this worker.
        store: where uploads and snapshots are; None reads only a job that has neither.
        attempt: unique name of this try.

    Raises:
        JobUnreadable: if it is not a job of difuso.
        ModelIsLoading: if it needs a model that is still to come.
        ModelIsMissing: if it needs a version that this worker does not hold.
        PlanError: if the model has no such run.
        StoreNeeded: if there is no store to read from.
        StoreUnavailable: if the store does not return the job's uploads or its snapshot.
    """
    job = decode(record)
    for ref in job.refs:
        if ref not in models.runners:
            raise ModelIsLoading(ref) if models.may_come(ref, job.refs) else ModelIsMissing(job, ref)
    runner, *more = (models.runners[ref] for ref in job.refs)
    upscaler = more[0] if more else None
    if job.planes != (upscaler or runner).checkpoint.config.shape.planes:
        raise JobUnreadable(f"{job.models[-1]} has another number of channels than when the job was accepted")
    hashes = [picture.sha256 for picture in job.pictures] + job.params.uploads(runner.checkpoint.config)
    sent: list[Tensor] = []
    snapshot = None
    if hashes or not record.is_fresh:
        if store is None:
            raise StoreNeeded
        sent = [_sent(job, each, store) for each in hashes]
        snapshot = None if record.is_fresh else store.snapshot(job.id)
    active = activate(job, runner, upscaler=upscaler, sent=sent, attempt=attempt, snapshot=snapshot)
    active.has_snapshot = not record.is_fresh
    return active


def decode(record: JobRecord) -> Job:
    """Returns the job in the form of our contract, for the versions that it is bound to.

    The stored function name is compared, never imported.
    """
    if record.function != TASK:
        raise JobUnreadable("the queue holds an entry that is not a job of difuso")
    job = Job.decode(record.arguments.get("job"))
    if job.id != record.id:
        raise JobUnreadable("the job has another id than its record in RQ")
    return job.bound_to(record.versions)


def known_job(record: JobRecord) -> Job | None:
    """Returns the job in a record; None if it cannot be read."""
    try:
        return decode(record)
    except Exception:  # of whatever kind: it is no job
        return None


def _sent(job: Job, sha256: str, store: ResultStore) -> Tensor:
    """Returns an uploaded image, shape (C, H, W), noise, shape (H, W, C), or a sequence, shape (l, width)."""
    file = store.upload(job.id, sha256) if re.fullmatch(SHA256, sha256) else None
    if file is None or hashlib.sha256(file).hexdigest() != sha256:
        raise JobUnreadable("an uploaded file is missing or damaged")
    return from_file(file)
