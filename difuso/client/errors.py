"""The errors of the client, and a table that says which problem (RFC 9457) becomes which of them."""

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import httpx

from ..terminal import printable

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True)
class Problem:
    """An error as the server describes it.

    Attributes:
        type: a stable path, such as `/problems/invalid-request`; `about:blank` if something before difuso answered.
        title: the title of the type.
        status: the HTTP status.
        detail: the explanation, for people.
        instance: the path of the request.
        errors: for an invalid request: each `detail` with the `parameter`, `header`, `part` or `pointer` that is wrong.
        code: for a failed job: the reason, such as `timeout`.
        request_id: the id of the request in the server's log.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: tuple[Mapping[str, str], ...] = ()
    code: str | None = None
    request_id: str | None = None


class DifusoError(Exception):
    """Base of every error of the client.

    Args:
        message: the explanation, for people; characters that a terminal would obey are escaped.
        problem: the server's answer; None if the error is not one.
        retry_after: seconds after which another try may succeed; None if the server has not said.
    """

    may_pass: ClassVar[bool] = False  # whether the client tries again

    def __init__(self, message: str, problem: Problem | None = None, retry_after: float | None = None) -> None:
        super().__init__(printable(message))
        self.problem = problem
        self.retry_after = retry_after


class Unreachable(DifusoError):
    """The server has not answered: there is no connection, or it broke."""


class TimedOut(DifusoError):
    """The job has not ended within the time."""

    def __init__(self, job_id: str) -> None:
        super().__init__(f"the job {job_id} has not ended within the timeout")
        self.job_id = job_id


class InvalidRequest(DifusoError):
    """The request is wrong; `problem.errors` names what."""


class ImageRefused(InvalidRequest):
    """An image of the request cannot be used; `problem.errors` names its part."""


class IdempotencyConflict(InvalidRequest):
    """The idempotency key belongs to another request."""


class Unauthorized(DifusoError):
    """The server does not know the API key, or needs one."""


class NotFound(DifusoError):
    """There is no such job or path: the job never existed, was forgotten or belongs to somebody else."""


class NotReady(DifusoError):
    """The job has no images yet."""


class JobFailed(DifusoError):
    """The job failed; `problem.code` says why."""


class JobCancelled(DifusoError):
    """The job was cancelled, so it has no images."""


class ResultExpired(DifusoError):
    """The images were deleted after their time; the same request with the same seed makes them again."""


class VersionGone(DifusoError):
    """No worker holds the version of the model that the request names."""


class ModelUnavailable(DifusoError):
    """Every worker refuses the model."""


class Overloaded(DifusoError):
    """Too much work is waiting."""

    may_pass = True


class LimitReached(Overloaded):
    """A limit of the API key is reached."""


class Unavailable(DifusoError):
    """The server, its queue or its store does not work at the moment."""

    may_pass = True


# Problems by the last part of their type. docs/http-api.md describes them.
ERRORS: dict[str, type[DifusoError]] = {
    "invalid-request": InvalidRequest,
    "unknown-host": InvalidRequest,
    "cross-origin": InvalidRequest,
    "not-acceptable": InvalidRequest,
    "method-not-allowed": InvalidRequest,
    "content-too-large": InvalidRequest,
    "unsupported-media-type": InvalidRequest,
    "malformed-body": InvalidRequest,
    "malformed-request": InvalidRequest,
    "unsupported-format": ImageRefused,
    "bad-image": ImageRefused,
    "image-too-large": ImageRefused,
    "animated-image": ImageRefused,
    "image-too-complex": ImageRefused,
    "idempotency-conflict": IdempotencyConflict,
    "unauthorized": Unauthorized,
    "not-allowed": Unauthorized,
    "not-found": NotFound,
    "no-film": NotFound,
    "job-not-found": NotFound,
    "dataset-not-found": NotFound,
    "training-not-found": NotFound,
    "not-ready": NotReady,
    "name-taken": InvalidRequest,
    "not-possible-now": InvalidRequest,
    "job-failed": JobFailed,
    "job-cancelled": JobCancelled,
    "result-expired": ResultExpired,
    "job-unreadable": ResultExpired,
    "job-is-newer": Unavailable,
    "plugin-missing": Unavailable,
    "version-gone": VersionGone,
    "not-understood": Unavailable,
    "model-unavailable": ModelUnavailable,
    "overloaded": Overloaded,
    "limit-reached": LimitReached,
    "queue-unavailable": Unavailable,
    "queue-full": Unavailable,
    "store-unavailable": Unavailable,
    "shutting-down": Unavailable,
    "http-error": DifusoError,
    "internal": DifusoError,
}

# Answers that are not problems, such as those of a proxy.
BY_STATUS: dict[int, type[DifusoError]] = {
    401: Unauthorized,
    404: NotFound,
    429: Overloaded,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}


def error_of(response: httpx.Response) -> DifusoError:
    """Returns the error that an answer stands for, which is not a success and has its body."""
    problem = _problem(response)
    kind = ERRORS.get(problem.type.rpartition("/")[2]) or BY_STATUS.get(response.status_code, DifusoError)
    wait = response.headers.get("Retry-After", "")  # a proxy may send a date, which counts as nothing
    return kind(problem.detail, problem, float(wait) if wait.isdecimal() else None)


def _problem(response: httpx.Response) -> Problem:
    content: Any = None
    if response.headers.get("Content-Type", "").startswith(MEDIA_TYPE):
        with suppress(ValueError):
            content = json.loads(response.content)
    if not isinstance(content, dict):
        title = _text(f"{response.status_code} {response.reason_phrase}".strip())
        detail = f"{response.url} answered {title}"
        return Problem("about:blank", title, response.status_code, detail, response.url.path)
    detail = content.get("detail") or content.get("title") or f"{response.url} answered {response.status_code}"
    errors, code, request_id = content.get("errors") or (), content.get("code"), content.get("request_id")
    # A proxy's problem may lack what ours have (RFC 9457).
    return Problem(
        type=_text(content.get("type", "about:blank")),
        title=_text(content.get("title", response.reason_phrase)),
        status=response.status_code,
        detail=_text(detail),
        instance=_text(content.get("instance", "")),
        errors=tuple(
            {_text(name): _text(value) for name, value in each.items()} for each in errors if isinstance(each, dict)
        ),
        code=None if code is None else _text(code),
        request_id=None if request_id is None else _text(request_id),
    )


def _text(value: Any) -> str:
    return printable(str(value))
