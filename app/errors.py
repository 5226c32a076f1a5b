"""What the front end itself refuses; what is wrong with parameters and images, `jobs.errors` says.

    AppError
    ├── Unauthorized         no API key, or none that is known
    ├── UnknownHost          the request was meant for another server
    ├── CrossOrigin          the page of another site wants to change something
    ├── InvalidRequest       a parameter, header or body is wrong; names it
    ├── UploadRefused        a part of a multipart body is missing, sent twice or unknown; names it
    │   ├── NotMultipart         the body is of another type
    │   ├── MalformedBody        the body does not keep to its type, or ends too early
    │   └── BodyTooLarge         the body is longer than is read
    ├── NotAcceptable        no picture format satisfies the Accept header
    ├── Overloaded           the job would wait longer than is allowed
    ├── LimitReached         the API key has asked for as much as it may
    ├── ModelUnavailable     every live worker refuses the model
    ├── NotReady             the job has no pictures yet
    ├── JobCancelled         the job has no pictures and never will
    ├── JobFailed            as above; carries the failure code
    ├── NotUsable            /readyz: Redis or the store does not work
    └── ShuttingDown         /readyz: the process is about to end

As in `jobs.errors`, none of them knows HTTP; `app.problems` turns both trees into answers.
"""

from __future__ import annotations

from typing import Literal

from jobs.contract import FailureCode


class AppError(Exception):
    """Base of every error of this package.

    Args:
        detail: what is wrong this time, for the caller; None for the text that fits every time.
        retry_after: seconds after which it may be worth trying again.
    """

    def __init__(self, detail: str | None = None, *, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after


class Unauthorized(AppError):
    """The request carries no API key that is known; which of the ways to do that it chose is nobody's business."""


class UnknownHost(AppError):
    """The Host header names another server."""


class CrossOrigin(AppError):
    """A browser sent the request on behalf of a page from elsewhere."""


class InvalidRequest(AppError):
    """One part of the request is wrong.

    Args:
        place: where the part is: a query `parameter`, a `header`, or the body (a JSON `pointer`).
        name: of the part.
    """

    def __init__(self, place: Literal["parameter", "header", "pointer"], name: str, detail: str) -> None:
        super().__init__(detail)
        self.place = place
        self.name = name


class UploadRefused(AppError):
    """What was sent in a multipart body cannot be used.

    Args:
        part: which part it is about, None if it is the body itself.
    """

    def __init__(self, detail: str | None = None, *, part: str | None = None) -> None:
        super().__init__(detail)
        self.part = part


class NotMultipart(UploadRefused):
    """The body is no multipart/form-data."""


class MalformedBody(UploadRefused):
    """The body is not what multipart/form-data looks like."""


class BodyTooLarge(UploadRefused):
    """The body has more bytes than are read."""


class NotAcceptable(AppError):
    """No answer that can be made satisfies the Accept header."""


class Overloaded(AppError):
    """Too much work is waiting."""


class LimitReached(AppError):
    """The API key has asked for as much as it may."""


class ModelUnavailable(AppError):
    """Every live worker refuses the model."""


class NotReady(AppError):
    """The job is not finished."""


class JobCancelled(AppError):
    """The job was cancelled."""


class JobFailed(AppError):
    """The job ended without pictures."""

    def __init__(self, code: FailureCode) -> None:
        super().__init__()
        self.code = code


class NotUsable(AppError):
    """What this process depends on does not work."""


class ShuttingDown(AppError):
    """This process takes no new work."""
