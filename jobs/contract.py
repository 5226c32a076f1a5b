"""The job contract: all that crosses the queue, as frozen values with a schema version.

A job is one accepted request: n images of one model that share their parameters. It is complete: every default is
filled in and the seed is drawn before it is queued, so that any worker makes the same pictures from it.
"""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from pydantic import Field, ValidationError

from .errors import JobUnreadable
from .kinds import AnyTask
from .kinds.base import Prepared
from .kinds.generate import Generation
from .params import MAX_SEED, MODEL_NAME, SamplingParams
from .values import Frozen, Reported

SCHEMA = 1

# The one function name that is ever queued. Workers compare it and never import it, so that whoever can write to Redis
# still cannot choose what runs.
TASK = "difuso.job"

# Whole timesteps stay whole; a Karras grid has others between them.
Timesteps = tuple[int | float, ...]

# Ids become parts of paths in the result store, so nothing else may be one.
JOB_ID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"

# Bounds that no job reaches: what is stored may be anybody's, and a number beyond them would break whoever computes
# with it.
MAX_SECONDS = 10**9
MAX_TIME = 32_503_680_000.0  # the year 3000
MAX_NUMBER = 1e12
MAX_SIDE = 1_000_000  # pixels, more than any image has that is read

DEFAULT_URGENCY = 3
URGENCIES = range(8)  # RFC 9218: 0 is the most urgent


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class FailureCode(StrEnum):
    """Why a job failed; stable, for programs."""

    TIMEOUT = "timeout"  # ran longer than its limit
    NONFINITE = "nonfinite"  # the network produced NaN or infinity
    UNSUPPORTED = "unsupported"  # no worker understands the job
    STORAGE = "storage"  # pictures could not be stored, or not be read back
    WORKER_LOST = "worker_lost"  # the worker died under it, more often than is tried again
    INTERNAL = "internal"  # anything else; the worker's log says more


class Picture(Frozen):
    """An image that was sent along, as it lies in the result store: fitted to the model.

    Attributes:
        sha256: of its PNG.
        width, height: that it had when it was sent, in pixels.
    """

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    width: int = Field(ge=1, le=MAX_SIDE)
    height: int = Field(ge=1, le=MAX_SIDE)


class Job(Frozen):
    """One accepted request.

    Attributes:
        id: UUID, hexadecimal with dashes.
        task: what is done, and what only that kind of job has.
        pictures: that were sent along, in the result store.
        model: name of a checkpoint.
        urgency: 0 (first) to 7 (last).
        accepted_at: seconds since the epoch.
        timeout: seconds that it may run.
        owner: name on the API key that it was asked for with; None where there are no keys.
        request_id: of the HTTP request that it was accepted from, to be found in the logs of all processes.
        traceparent: that request's span, as W3C Trace Context writes it; None unless it is traced.
    """

    schema_version: int = SCHEMA
    id: str = Field(pattern=JOB_ID)
    task: AnyTask = Generation()
    model: str = Field(pattern=MODEL_NAME)
    params: SamplingParams
    pictures: tuple[Picture, ...] = Field(default=(), max_length=2)
    urgency: int = Field(default=DEFAULT_URGENCY, ge=0, le=7)
    accepted_at: float = Field(ge=0, le=MAX_TIME)
    timeout: int = Field(gt=0, le=MAX_SECONDS)
    owner: str | None = Field(default=None, max_length=64)
    request_id: str | None = Field(default=None, max_length=64)
    traceparent: str | None = Field(default=None, max_length=64)

    @property
    def kind(self) -> str:
        return self.task.kind

    @property
    def image_steps(self) -> int:
        """Its work, and its share of the backlog."""
        return self.task.image_steps(self.params)

    @property
    def answers(self) -> int:
        """Images that it ends with."""
        return self.task.answers(self.params)

    @property
    def trail(self) -> dict[str, str | None]:
        """What log lines about it have in common."""
        return {"job_id": self.id, "request_id": self.request_id}

    @classmethod
    def decode(cls, content: Any) -> Self:
        """Reads what `model_dump(mode="json")` wrote.

        Raises:
            JobUnreadable: if it is of another schema version or no job at all.
        """
        try:
            job = cls.model_validate(content)
        except ValidationError as error:
            raise JobUnreadable("the queued job is damaged") from error
        if job.schema_version != SCHEMA:
            raise JobUnreadable(f"the queued job has schema {job.schema_version}, this version reads {SCHEMA}")
        return job


def new_job(
    model: str,
    prepared: Prepared,
    *,
    id: str | None = None,
    timeout: int = MAX_SECONDS,
    **facts: Any,
) -> Job:
    """The job of a complete request, accepted now.

    Args:
        model: name of the checkpoint.
        id: None draws one.
        timeout: seconds that it may run; thirty years where nobody cuts it short.
        facts: what else the job should hold; see `Job`.
    """
    return Job(
        id=id or str(uuid.uuid4()),
        model=model,
        params=prepared.params,
        task=prepared.task,
        pictures=tuple(Picture(sha256=each.sha256, width=each.width, height=each.height) for each in prepared.images),
        accepted_at=time.time(),
        timeout=timeout,
        **facts,
    )


class Progress(Reported):
    """What a worker reports of a job while it runs and when it ends.

    Attributes:
        image_steps: done so far, of `job.image_steps`.
        eta_seconds: until it is done; None unless it runs.
        denoise_seconds, encode_seconds: spent so far.
        failure: set when the job failed for a reason the worker knows.
        resumed_at: image-steps that an earlier worker had done when this one took over.
    """

    image_steps: int = Field(default=0, ge=0, le=MAX_SEED)
    eta_seconds: float | None = Field(default=None, ge=0, le=MAX_NUMBER)
    denoise_seconds: float = Field(default=0.0, ge=0, le=MAX_SECONDS)
    encode_seconds: float = Field(default=0.0, ge=0, le=MAX_SECONDS)
    failure: FailureCode | None = None
    resumed_at: int = 0


@dataclass(frozen=True, kw_only=True)
class JobStatus:
    """A job and where it stands; times are seconds since the epoch. Never stored, so there is nothing to validate.

    Attributes:
        timesteps: what the network is told, in the order of the calls, as a JSON list; None until a worker has started.
        position: jobs that will be claimed before this one, 0 for the next; None unless queued.
        attempts: workers that started it.
        eta_seconds: until it is done; None where nothing is known about the speed.
        expires_at: when its pictures are deleted; None unless succeeded.
    """

    job: Job
    state: JobState
    progress: Progress = field(default_factory=Progress)
    timesteps: str | None = None
    position: int | None = None
    attempts: int = 0
    eta_seconds: float | None = None
    started_at: float | None = None
    ended_at: float | None = None
    expires_at: float | None = None
    failure: FailureCode | None = None


class ImageFile(Reported):
    """One picture of a result: its path below the job's folder, and what it shows."""

    path: str
    seed: int
    sha256: str


class Manifest(Reported):
    """The commit point of a result: a job has its pictures once its manifest exists."""

    job: Job
    model_sha256: str
    timesteps: Timesteps
    images: tuple[ImageFile, ...]
    finished_at: float


class ModelReport(Reported):
    """One model as a worker sees it.

    Attributes:
        ready: loaded and warm; otherwise `reason` says why not.
        rate: image-steps per second at full batch, measured.
        step_seconds: that one step of a lone image takes, measured.
    """

    ready: bool
    sha256: str | None = None
    rate: float | None = Field(default=None, ge=1 / MAX_NUMBER, le=MAX_NUMBER)
    step_seconds: float | None = Field(default=None, ge=0, le=MAX_SECONDS)
    reason: str | None = None


class WorkerReport(Reported):
    """What a worker says of itself every few seconds; `at` is seconds since the epoch."""

    name: str
    at: float
    slots: int
    models: dict[str, ModelReport]
