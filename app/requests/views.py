"""Jobs and prices as the API shows them; an unknown value is absent, except in prices."""

import json
import time
from datetime import UTC, datetime
from typing import Any, Self

from difuso.jobs.contract import FailureCode, Job, JobState, Picture
from difuso.jobs.cost import Cost
from difuso.jobs.kinds import AnyTask
from difuso.jobs.never_seen import JobWarning
from difuso.jobs.params import SamplingParams
from difuso.jobs.redis.backlog import Forecast
from difuso.jobs.redis.index import Page
from difuso.jobs.redis.status import JobStatus
from difuso.jobs.redis.webhooks import Webhook
from difuso.jobs.values import Frozen

from ..http.access import signed_path
from ..http.api_keys import ApiKey
from ..http.problems import FAILURES


class ImageSteps(Frozen):
    """Network calls of all images of a job; each kind of guidance adds one to each step where it acts."""

    done: int
    total: int


class Timings(Frozen):
    """Durations in seconds; `queue` ends when a worker claims the job, `total` when the job ends."""

    queue: float | None = None
    denoise: float
    encode: float
    total: float | None = None


class Failure(Frozen):
    """The reason why a job failed: a code for programs, a sentence for people."""

    code: FailureCode
    detail: str


class Links(Frozen):
    """Paths of a job, its events and its images; those of the images are absent unless there are images.

    `pictures` take the place of `images` if these are not PNGs, because they have other than 1 or 3 channels.

    `signed` are paths of either that work without an API key; they are absent if the server has no keys.
    """

    self: str
    events: str
    image: str | None = None
    images: list[str] | None = None
    pictures: list[str] | None = None
    signed: list[str] | None = None


class WebhookView(Frozen):
    """What is called at the end of a job. `status` is that of its last answer, and `error` says why there was none.

    There will be a further attempt at `next_at`. Without that and without `delivered_at` there will be none.
    """

    url: str
    attempts: int
    status: int | None = None
    error: str | None = None
    next_at: datetime | None = None
    delivered_at: datetime | None = None

    @classmethod
    def of(cls, webhook: Webhook) -> Self:
        times = {name: _moment(getattr(webhook, name)) for name in ("next_at", "delivered_at")}
        return cls(**webhook.model_dump() | times)


class Outlook(Frozen):
    """The part of a job that changes while it waits and runs."""

    state: JobState
    position: int | None = None
    steps: ImageSteps
    eta_seconds: float | None = None

    @classmethod
    def of(cls, status: JobStatus) -> Self:
        seconds = _rounded(status.eta_seconds)
        steps = ImageSteps(done=status.progress.image_steps, total=status.job.image_steps)
        return cls(state=status.state, position=status.position, steps=steps, eta_seconds=seconds)


class JobView(Outlook):
    """All about a job; `timesteps` only if they were asked for, `bits` only if each pixel has 16.

    `version` is that of its model which draws it. `owner` is shown to operators only.
    """

    id: str
    kind: str
    model: str
    version: str
    owner: str | None = None
    params: SamplingParams
    warnings: tuple[JobWarning, ...] | None = None
    tag: str | None = None
    webhook: WebhookView | None = None
    trace: tuple[int, ...] | None = None
    bits: int | None = None
    task: AnyTask | None = None
    pictures: list[Picture] | None = None
    timesteps: list[int | float] | None = None
    urgency: int
    attempts: int
    timings: Timings
    failure: Failure | None = None
    accepted_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    expires_at: datetime | None = None
    links: Links

    @classmethod
    def of(cls, status: JobStatus, key: ApiKey | None = None) -> Self:
        """Returns the view of a job for the holder of an API key; None if the server has no keys."""
        job = status.job
        return cls(
            **dict(Outlook.of(status)),
            **_request(job),
            id=job.id,
            owner=job.owner if key is not None and key.is_operator else None,
            tag=job.tag,
            webhook=None if status.webhook is None else WebhookView.of(status.webhook),
            trace=job.trace or None,
            bits=None if job.bits == 8 else job.bits,
            pictures=list(job.pictures) or None,
            urgency=job.urgency,
            attempts=status.attempts,
            timings=timings(status),
            failure=_failure(status),
            accepted_at=datetime.fromtimestamp(job.accepted_at, UTC),
            started_at=_moment(status.started_at),
            ended_at=_moment(status.ended_at),
            expires_at=_moment(status.expires_at),
            links=_links(status, key),
        )


def job_text(status: JobStatus, key: ApiKey | None) -> str:
    """Returns the job as JSON, with links signed by the caller's `key`; None if the server has no keys.

    Its timesteps, the largest part, are JSON already and are inserted unchanged.
    """
    text = JobView.of(status, key).model_dump_json(exclude_none=True)
    return text if status.timesteps is None else f'{text[:-1]},"timesteps":{status.timesteps}}}'


class JobList(Frozen):
    """A part of the list of a caller's jobs, for an operator of all jobs, newest first.

    `next` is the `cursor` of the next part; it is absent after the last job.
    """

    jobs: list[JobView]
    next: str | None = None


def list_text(page: Page, key: ApiKey | None) -> str:
    """Returns a part of a list of jobs as JSON, a `JobList`; `key` as in `job_text`."""
    jobs = f'{{"jobs":[{",".join(job_text(status, key) for status in page.jobs)}]'
    return f"{jobs}}}" if page.following is None else f'{jobs},"next":"{page.following.encode()}"}}'


class Price(Frozen):
    """The price of a request, and when it would be done if it were sent now. Its parameters and seed are filled in.

    `cost` and `stored_bytes` are what it takes of an API key's limits. `seconds` is the time of the job alone on a
    worker; `eta_seconds` counts also what waits and runs. Both are null while the speed is unknown. `load_seconds` is
    the part of `eta_seconds` in which a worker loads the model; it is absent if one has. With `asleep` the job starts
    workers of its model, and `load_seconds` is what that took last time, if it is known.
    """

    kind: str
    model: str
    version: str
    image_steps: int
    images: int
    cost: int
    stored_bytes: int
    seconds: float | None
    eta_seconds: float | None
    load_seconds: float | None = None
    asleep: bool | None = None
    params: SamplingParams
    task: AnyTask | None = None
    warnings: tuple[JobWarning, ...] | None = None

    @classmethod
    def of(cls, job: Job, cost: Cost, forecast: Forecast) -> Self:
        """Returns the view of a job that was not submitted, and of its forecast."""
        return cls(
            **_request(job),
            image_steps=job.image_steps,
            images=job.answers,
            cost=cost.image_steps,
            stored_bytes=cost.stored_bytes,
            seconds=_rounded(forecast.lone_seconds),
            eta_seconds=_rounded(forecast.eta_seconds),
            load_seconds=_rounded(forecast.load_seconds),
            asleep=forecast.asleep or None,
        )


def price_text(price: Price) -> str:
    """Returns a price as JSON: parameters are absent where a job lacks them, and unknown seconds are null."""
    shown = price.model_dump(mode="json", exclude_none=True)
    return json.dumps({**shown, "seconds": price.seconds, "eta_seconds": price.eta_seconds})


def timings(status: JobStatus) -> Timings:
    """Returns the durations of a job's phases so far."""
    since, progress = status.job.accepted_at, status.progress
    return Timings(
        queue=None if status.started_at is None else max(0.0, status.started_at - since),
        denoise=progress.denoise_seconds,
        encode=progress.encode_seconds,
        total=None if status.ended_at is None else max(0.0, status.ended_at - since),
    )


def _request(job: Job) -> dict[str, Any]:
    """Returns what a job and a price have in common."""
    return {
        "kind": job.kind,
        "model": job.model,
        "version": job.version,
        "params": job.params,
        "task": job.task if job.task.has_parameters else None,
        "warnings": job.warnings or None,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def _links(status: JobStatus, key: ApiKey | None) -> Links:
    path, expires_at = f"/jobs/{status.job.id}", status.expires_at
    if expires_at is None or time.time() >= expires_at:
        return Links(self=path, events=f"{path}/events")
    each = [f"{path}/images/{index}" for index in range(status.job.answers)]
    signed = [signed_path(key, one, int(expires_at)) for one in each] if key else None
    named = {"images" if status.job.planes == 1 else "pictures": each}
    return Links(self=path, events=f"{path}/events", image=f"{path}/image", **named, signed=signed)


def _failure(status: JobStatus) -> Failure | None:
    if status.failure is None:
        return None
    return Failure(code=status.failure, detail=status.progress.reason or FAILURES[status.failure][1])


def _moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
