"""Whether a job may join the queue: refusing early is kinder than letting it wait for what will not come in time."""

from __future__ import annotations

import math

from jobs.contract import ModelReport
from jobs.limits import Limits, Refusal
from jobs.queue import Backlog

from .errors import InvalidRequest, LimitReached, ModelUnavailable, Overloaded

# Without a measured speed there is nothing to compute a delay from.
UNKNOWN_RETRY_SECONDS = 30

# A limit against jobs that hang, not a promise: 1 image-step per second is slower than any machine worth serving on.
SLOWEST_RATE = 1.0
LEAST_TIMEOUT = 600.0


def admit(backlog: Backlog, *, max_wait: float, max_jobs: int) -> None:
    """Returns if one more job may wait.

    Args:
        backlog: of its model.
        max_wait: seconds that the work before it may take.
        max_jobs: unfinished jobs that the model may have.

    Raises:
        Overloaded: with the seconds after which the backlog will be short enough.
    """
    waiting = backlog.image_steps / backlog.rate if backlog.rate else None
    if waiting is not None and waiting > max_wait:
        raise Overloaded(
            f"The work before this request takes about {waiting:.0f} s, more than the {max_wait:.0f} s allowed.",
            retry_after=max(1, math.ceil(waiting - max_wait)),
        )
    if backlog.jobs >= max_jobs:
        one_job = UNKNOWN_RETRY_SECONDS if waiting is None else waiting / backlog.jobs
        raise Overloaded(f"{backlog.jobs} jobs are unfinished already.", retry_after=max(1, math.ceil(one_job)))


def check_size(image_steps: int, limits: Limits) -> None:
    """Returns unless a job alone is more than its owner may have unfinished, now and at any other time.

    Raises:
        InvalidRequest: if it is.
    """
    if limits.unfinished is not None and image_steps > limits.unfinished:
        raise InvalidRequest(
            "parameter",
            "steps",
            f"All images together take {image_steps} steps, and your API key may have {limits.unfinished} unfinished",
        )


def check_share(refused: Refusal | None, image_steps: int, limits: Limits, *, rate: float | None) -> None:
    """Returns if a job got its share of what its owner may ask for.

    Args:
        rate: image-steps per second of all live workers; None if unknown.

    Raises:
        LimitReached: with the seconds after which it may get it.
    """
    if refused is None:
        return
    if refused.limit == "rate":
        raise LimitReached(
            f"Your API key may ask for {limits.rate:g} image-steps per second, and asked for more than that.",
            retry_after=max(1, math.ceil(refused.amount)),
        )
    over = refused.amount + image_steps - (limits.unfinished or 0)
    raise LimitReached(
        f"{refused.amount:.0f} image-steps that your API key asked for are unfinished; {limits.unfinished} may be.",
        retry_after=max(1, math.ceil(over / rate)) if rate else UNKNOWN_RETRY_SECONDS,
    )


def refusal(reports: list[ModelReport]) -> str | None:
    """Why no worker will run a model; None if one does, might once it has loaded it, or none has spoken of it."""
    if not reports or any(report.ready or report.reason is None for report in reports):
        return None
    return reports[0].reason


def check_served(model: str, reports: list[ModelReport]) -> None:
    """Returns unless every live worker refuses the model.

    Raises:
        ModelUnavailable: with the first worker's reason.
    """
    reason = refusal(reports)
    if reason is not None:
        raise ModelUnavailable(f"{model}: {reason}")


def job_timeout(image_steps: int, *, max_wait: float) -> int:
    """Seconds that a job may run.

    Running jobs share the batch, so one may take as long as all that was admitted before it (`max_wait`) besides its
    own work at the slowest rate.
    """
    return math.ceil(max(LEAST_TIMEOUT, max_wait + image_steps / SLOWEST_RATE))
