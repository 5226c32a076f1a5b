"""The job contract: all values that cross the queue, frozen and numbered (`jobs.understanding`).

A job is one accepted request: n images of one model with the same parameters. It is complete: every default is filled
in and the seed is drawn before it is queued, so that every worker makes the same images from it.
"""

import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from enum import StrEnum
from functools import cached_property
from itertools import zip_longest
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, ValidationError
from pydantic_core import from_json

from difuso.model.conditions import Value
from difuso.model.folders.config import Precision
from difuso.model.folders.files import VERSION, ref_of
from difuso.model.plans.plugins import NOT_PLUGGED_IN
from difuso.model.plans.settings import MOST_STEPS, SETTINGS
from difuso.model.shape import Shown

from . import understanding
from .conditions import Values
from .errors import JobIsNewer, JobUnreadable, PluginMissing
from .kinds import AnyTask
from .kinds.base import Prepared
from .kinds.generate import Generation
from .moments import Trace
from .never_seen import JobWarning
from .params import MAX_IMAGES, MODEL_NAME, TAG, SamplingParams
from .values import Bits, Frozen, Planes, Reported

# The only function name in the queue. Workers compare it and never import it, so that nobody who can write to Redis
# chooses the code that runs.
TASK = "difuso.job"

# Whole timesteps are integers. A Karras grid also has timesteps between them.
Timesteps = tuple[int | float, ...]

# The only form of ids, because they become parts of paths in the result store.
JOB_ID = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"

NO_TIMEOUT = 10**9  # seconds: thirty years, which is no limit

DEFAULT_URGENCY = 3
URGENCIES = range(8)  # RFC 9218: 0 is the most urgent


class JobState(StrEnum):
    """The state of a job."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


class FailureCode(StrEnum):
    """The reasons why a job can fail; the codes are stable, for programs."""

    TIMEOUT = "timeout"  # the job ran longer than its time limit
    NONFINITE = "nonfinite"  # the network produced NaN or infinity
    NETWORK = "network"  # the network is of another package, whose code failed
    UNSUPPORTED = "unsupported"  # no worker understands the job
    VERSION_GONE = "version_gone"  # no worker holds the version of the model that was asked for
    REFUSED = "refused"  # all workers refuse the model, for the reason in `Progress`
    STORAGE = "storage"  # the images could not be written or read
    WORKER_LOST = "worker_lost"  # workers died while they ran the job, and no try is left
    INTERNAL = "internal"  # any other reason; the worker's log has the error


class Picture(Frozen):
    """An image that came with the request, fitted to the model and kept in the result store; or the noise of an image.

    Its width and height are those of the image as it was sent, in pixels.
    """

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    width: int = Field(ge=1)
    height: int = Field(ge=1)


class Job(Frozen):
    """One accepted request."""

    contract: int = Field(default=1, ge=1)  # the number of the first contract that has all that the job needs
    id: str = Field(pattern=JOB_ID)  # a UUID, hexadecimal with dashes
    task: AnyTask = Generation()  # the kind of the job, and the parameters of this kind only
    model: str = Field(pattern=MODEL_NAME)  # the name of a checkpoint
    # the version of each of its `models` that it was accepted for, or is bound to since; none if it crosses no queue
    versions: tuple[Annotated[str, Field(pattern=VERSION)], ...] = Field(default=(), max_length=2)
    pinned: bool = False  # whether the request asked for this version, so that no other may draw the job
    params: SamplingParams
    # the number of steps of an image that are guided, where guidance acts in some only; else None
    guided_steps: int | None = Field(default=None, ge=0, le=MOST_STEPS, exclude_if=lambda value: value is None)
    pictures: tuple[Picture, ...] = Field(default=(), max_length=MAX_IMAGES)  # of the request: its images, or its noise
    urgency: int = Field(default=DEFAULT_URGENCY, ge=0, le=7)  # 0 (first) to 7 (last)
    accepted_at: float = Field(ge=0)  # the time of acceptance, in seconds since the epoch
    timeout: int = Field(gt=0)  # the time limit for its run, in seconds
    owner: str | None = Field(default=None, max_length=64)  # the name of the request's API key; None without keys
    tag: str | None = Field(default=None, pattern=TAG)  # the client's own word, by which it finds its jobs again
    # the network calls after which x_t and the predicted image are kept, from 1 on; they change no image
    trace: Trace = ()
    # bits, planes, shown: of each image in the answer; `Shape.planes` and `ModelConfig.shown` of its model
    bits: Bits = 8
    planes: Planes = 1
    shown: Shown | None = Field(default=None, exclude_if=lambda value: value is None)
    warnings: tuple[JobWarning, ...] = Field(default=(), exclude_if=lambda value: not value)  # for the client
    # the id of the HTTP request, for the logs of all processes
    request_id: str | None = Field(default=None, max_length=64)
    traceparent: str | None = Field(default=None, max_length=64)  # its span, as in W3C Trace Context, if it is traced

    @property
    def kind(self) -> str:
        return self.task.kind

    @property
    def image_steps(self) -> int:
        """The work of the job, and its share of the backlog."""
        return self.task.image_steps(self.params, self.guided_steps)

    @property
    def models(self) -> tuple[str, ...]:
        """The names of all checkpoints that it needs, its own first."""
        second = self.task.second_stage
        return (self.model,) if second is None else (self.model, second.model)

    @property
    def version(self) -> str:
        """The version of its own model; empty if it crosses no queue."""
        return next(iter(self.versions), "")

    @property
    def ref(self) -> str:
        """The short name of this version, by which its queue is named."""
        return self.refs[0]

    @property
    def refs(self) -> tuple[str, ...]:
        """The short names of the versions of all its models."""
        return tuple(ref_of(model, version) for model, version in zip_longest(self.models, self.versions, fillvalue=""))

    @property
    def answers(self) -> int:
        """The number of images in its result."""
        return self.task.answers(self.params)

    @cached_property
    def needs(self) -> set[str]:
        """What a worker has to know to run it: its kind, its sampler, its settings and its other fields."""
        return {
            *([f"pictures of {self.kind}"] if self.pictures else []),
            *(["list of sigmas"] if "@" in self.params.spacing else []),
            f"kind {self.kind}",
            f"sampler {self.params.sampler}",
            *(f"setting {name}" for name in self.params.model_dump(include={*SETTINGS})),
            *(f"field {name}" for name in self.model_dump(exclude={"params", "task", "pictures"})),
            *self.task.needs(self.params),
        }

    @property
    def trail(self) -> dict[str, str | None]:
        """The fields of every log line about the job."""
        return {"job_id": self.id, "request_id": self.request_id}

    @classmethod
    def decode(cls, content: Any) -> Self:
        """Reads a job that `model_dump(mode="json")` wrote.

        Raises JobIsNewer or PluginMissing if it needs a newer contract or a plug-in, and JobUnreadable if it is no job.
        """
        check_contract(content)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            if any(each["type"] == NOT_PLUGGED_IN for each in error.errors()):
                raise PluginMissing("the sampler of the job is a plug-in's, which this process lacks") from error
            raise JobUnreadable("the queued job is damaged") from error

    def found_with(self, conditions: Values) -> Self:
        """Returns the job with the conditions that a worker has found for its picture; none leave it as it is."""
        if not conditions:
            return self
        params = self.params.model_copy(update={"conditions": {**self.params.conditions, **conditions}})
        return self.model_copy(update={"params": params})

    def bound_to(self, versions: tuple[str, ...]) -> Self:
        """Returns the job as these versions of its models are to draw it; none leave it as it is."""
        return self.model_copy(update={"versions": versions}) if versions else self


def check_contract(content: Any) -> None:
    """Raises JobIsNewer if the content is that of a job which needs a newer contract than this version has."""
    needed = content.get("contract") if isinstance(content, dict) else None
    if isinstance(needed, int) and needed > understanding.CONTRACT:
        raise JobIsNewer(f"the job needs contract {needed}, this version reads {understanding.CONTRACT}")


def new_job(
    model: str,
    prepared: Prepared,
    *,
    id: str | None = None,
    timeout: int = NO_TIMEOUT,
    **facts: Any,
) -> Job:
    """Returns the job of a complete request, accepted now, with further `facts`; its id is drawn if there is none."""
    job = Job(
        id=id or str(uuid.uuid4()),
        model=model,
        params=prepared.params,
        task=prepared.task,
        guided_steps=prepared.guided_steps,
        pictures=tuple(Picture(sha256=each.sha256, width=each.width, height=each.height) for each in prepared.images),
        accepted_at=time.time(),
        timeout=timeout,
        trace=prepared.trace,
        bits=prepared.bits,
        planes=prepared.planes,
        shown=prepared.shown,
        warnings=prepared.warnings,
        **facts,
    )
    return job.model_copy(update={"contract": understanding.number_of(job.needs)})


class Progress(Reported):
    """A worker's report on a job while it runs and when it ends."""

    image_steps: int = 0  # the image-steps done so far, 0 to `job.image_steps`
    # the time until the job is done; None unless it runs
    eta_seconds: float | None = None
    # denoise_seconds, encode_seconds: the time spent so far
    denoise_seconds: float = 0.0
    encode_seconds: float = 0.0
    # the reason why the job failed; None if it has not, or if no worker knows the reason
    failure: FailureCode | None = None
    # more about the failure, for clients; None if the code says all
    reason: str | None = None
    resumed_at: int = 0  # the image-steps that earlier workers had done when this one began
    # the conditions that the worker has found for the picture of the request (`jobs.nearest`); none until it has
    found: Mapping[str, tuple[Value, ...]] = Field(default={}, exclude_if=lambda value: not value)


class ImageFile(Reported):
    """One image of a result."""

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    path: str | None = None  # where it lies below the job's folder; None if the manifest holds it
    seed: int  # the seed that draws it
    sha256: str  # the SHA-256 of its PNG
    png: bytes | None = None  # its PNG, if the whole result is small
    # its film (`jobs.moments`), if there is one and the whole result is small
    film: bytes | None = None


class Manifest(Reported):
    """The description of a result, and its commit point: a job has images once its manifest exists."""

    job: Job  # with the versions of its models that drew it
    # the number format of the network's calls; in a cascade that of the first stage
    precision: Precision = "float32"
    timesteps: Timesteps
    images: tuple[ImageFile, ...]
    trace: str | None = None  # where the file of the kept moments lies below the job's folder; None if there is none
    # where the file of all films lies there; None if there is none
    films: str | None = None
    finished_at: float

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Reads a manifest that `model_dump_json` wrote; raises JobIsNewer or JobUnreadable like `Job.decode`."""
        try:
            return cls.model_validate_json(content)
        except ValidationError as error:
            with suppress(ValueError, LookupError, TypeError):
                check_contract(from_json(content)["job"])
            raise JobUnreadable("the manifest is damaged") from error
