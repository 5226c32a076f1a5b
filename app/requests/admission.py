"""Admission of jobs to the queue: one that would wait too long, or is beyond the limits of its owner, is refused."""

import math
from collections.abc import Sequence
from typing import Any

import http_sf

from difuso.jobs.contract import Job
from difuso.jobs.cost import Cost
from difuso.jobs.errors import VersionGone
from difuso.jobs.redis.backlog import Backlog
from difuso.jobs.redis.limits import BURST_SECONDS, Limits, Refusal, Usage
from difuso.jobs.redis.workers import WorkerReport, apart, refusal
from difuso.model.folders.files import model_of

from ..errors import InvalidRequest, LimitReached, ModelUnavailable, NotUnderstood, Overloaded

UNKNOWN_RETRY_SECONDS = 30  # the delay while no worker has measured its speed

# The timeout only stops jobs that hang. Any machine worth serving on is faster than one image-step per second.
SLOWEST_RATE = 1.0
LEAST_TIMEOUT = 600.0  # seconds

# Units that are not registered, but the draft's default, requests, would be wrong.
UNIT, ROOM = "image-steps", "stored-bytes"
MAX_INTEGER = 10**15 - 1  # of a Structured Field (RFC 9651)


def admit(backlog: Backlog, *, max_wait: float, max_jobs: int) -> None:
    """Raises Overloaded, with the seconds until there is room, if a model's queue has no room for one more job.

    Its backlog may take `max_wait` seconds and have fewer than `max_jobs` jobs.
    """
    waiting = backlog.image_steps / backlog.rate if backlog.rate else None
    if waiting is not None and waiting > max_wait:
        raise Overloaded(
            f"The jobs before this one take about {waiting:.0f} s; the limit is {max_wait:.0f} s.",
            retry_after=waiting - max_wait,
        )
    if backlog.jobs >= max_jobs:
        one_job = UNKNOWN_RETRY_SECONDS if waiting is None else waiting / backlog.jobs
        raise Overloaded(f"{backlog.jobs} jobs are unfinished; the limit is {max_jobs}.", retry_after=one_job)


def check_size(cost: Cost, limits: Limits) -> None:
    """Raises InvalidRequest if a job by itself exceeds a limit of its owner, and so could never be accepted."""
    if limits.unfinished is not None and cost.image_steps > limits.unfinished:
        raise InvalidRequest(
            "parameter",
            "steps",
            f"All images together take {cost.image_steps} image-steps; your API key may have {limits.unfinished} "
            "unfinished",
        )
    if limits.stored is not None and cost.stored_bytes > limits.stored:
        raise InvalidRequest(
            "parameter",
            "n",
            f"All images, with what is kept of their runs, may take {cost.stored_bytes} bytes; your API key may store "
            f"{limits.stored}: ask for fewer images, or for less in trace",
        )


def share_refused(refused: Refusal, cost: Cost, limits: Limits, *, rate: float | None) -> LimitReached:
    """Returns the error for a limit that is reached; `rate` is the image-steps per second of all live workers."""
    if refused.limit == "rate":
        return LimitReached(
            f"Your API key has asked for more than its limit of {limits.rate:g} image-steps per second.",
            retry_after=refused.amount,
        )
    if refused.limit == "stored":
        return LimitReached(
            f"This request may store {cost.stored_bytes} bytes; of the {limits.stored} of your API key fewer are left.",
            retry_after=refused.amount,
        )
    over = refused.amount + cost.image_steps - (limits.unfinished or 0)
    return LimitReached(
        f"{refused.amount:.0f} image-steps of your API key are unfinished, and this request takes {cost.image_steps} "
        f"more; the limit is {limits.unfinished}.",
        retry_after=over / rate if rate else UNKNOWN_RETRY_SECONDS,
    )


def drawing_ref(job: Job, workers: Sequence[WorkerReport]) -> str:
    """Returns the ref of the version that will draw a job: if nobody holds its own, a worker binds it to another."""
    if job.pinned or any(worker.holds(job.ref) for worker in workers):
        return job.ref
    newest = (each.ref for worker in workers for each in worker.models if each.name == job.model and each.newest)
    return next(newest, job.ref)


def check_served(job: Job, workers: Sequence[WorkerReport], *, asleep: bool = False) -> None:
    """Checks that live workers can draw a job, or may be able to soon.

    Raises ModelUnavailable if every worker refuses one of its models, or none serves all of them; VersionGone if it is
    pinned to a version that no worker holds, unless the workers of its model are `asleep`; and NotUnderstood if every
    worker that holds its version is too old for it.
    """
    own = drawing_ref(job, workers)
    for ref in (own, *job.refs[1:]):
        if (reason := refusal(ref, workers)) is not None:
            raise ModelUnavailable(f"{model_of(ref)}: {reason}")
    holding = [worker for worker in workers if worker.holds(own)]
    if job.pinned and not holding and not asleep:
        raise VersionGone(f"No live worker holds version {job.version} of {job.model}; see GET /models/{job.model}")
    if (reason := apart([own, *job.refs[1:]], workers)) is not None:
        raise ModelUnavailable(reason)
    needs = job.needs
    lacking = [worker.understands.lacks(needs, job.contract) for worker in holding]
    if lacking and None not in lacking:
        raise NotUnderstood(f"The workers of {job.model} are older than this server, and do not know {lacking[0]} yet.")


def job_timeout(image_steps: int, *, max_wait: float) -> int:
    """Returns how many seconds a job may run.

    Running jobs share the batch. So a job may take as long as the work that was admitted before it (`max_wait`, in
    seconds) and its own work at the slowest rate.
    """
    return math.ceil(max(LEAST_TIMEOUT, max_wait + image_steps / SLOWEST_RATE))


def rate_limit_headers(limits: Limits, usage: Usage, *, kept_seconds: int) -> dict[str, str]:
    """Returns RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-11) for the limits that are set.

    An account fills in BURST_SECONDS, and that of stored bytes in the time that results are kept, so these are the
    windows of their policies. Since an account fills all the time, the window in which no more is available than now is
    only known while it is empty: until the next job is accepted.
    """
    policies: list[Any] = []  # items of http_sf: a string and its parameters
    states: list[Any] = []
    if limits.rate is not None:
        policies.append(("rate", {"q": _integer(BURST_SECONDS * limits.rate), "qu": UNIT, "w": BURST_SECONDS}))
        wait = {} if usage.balance > 0 else {"t": _integer(-usage.balance / limits.rate)}
        states.append(("rate", {"r": _integer(usage.balance), **wait}))
    if limits.unfinished is not None:
        policies.append(("unfinished", {"q": _integer(limits.unfinished), "qu": UNIT}))
        states.append(("unfinished", {"r": _integer(limits.unfinished - usage.unfinished)}))
    if limits.stored is not None:
        policies.append(("stored", {"q": _integer(limits.stored), "qu": ROOM, "w": kept_seconds}))
        states.append(("stored", {"r": min(MAX_INTEGER, math.floor(usage.room))}))
    return {"RateLimit-Policy": http_sf.ser(policies), "RateLimit": http_sf.ser(states)}


def _integer(amount: float) -> int:
    """Rounds up, so that 0 means that nothing more is accepted."""
    return min(MAX_INTEGER, max(0, math.ceil(amount)))
