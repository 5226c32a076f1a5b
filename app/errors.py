"""The errors of the front end; those about parameters and images are in `jobs.errors`.

These errors know nothing of HTTP, and neither do those of `jobs.errors`; `app.http.problems` turns both into answers.
"""

import math
from typing import Literal

from jobs.contract import FailureCode


class AppError(Exception):
    """Base of every error of this package.

    Args:
        detail: the explanation for the caller; None for the text of the problem type.
        retry_after: seconds after which another try may succeed; they are rounded up to whole seconds, 1 at least.

    Attributes:
        headers: further headers of the answer.
    """

    def __init__(self, detail: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = None if retry_after is None else max(1, math.ceil(retry_after))
        self.headers: dict[str, str] = {}


class Unauthorized(AppError):
    """The request has no known API key; the answer does not tell whether it is missing, malformed or unknown."""


class UnknownHost(AppError):
    """The Host header names another server."""


class CrossOrigin(AppError):
    """A browser sent the request on behalf of a page of another origin."""


class InvalidRequest(AppError):
    """One part of the request is wrong.

    Args:
        place: the kind of part: a query `parameter`, a `header`, or the body (a JSON `pointer`).
        name: the name of the parameter or header, or the pointer.
    """

    def __init__(self, place: Literal["parameter", "header", "pointer"], name: str, detail: str) -> None:
        super().__init__(detail)
        self.place = place
        self.name = name


class UploadRefused(AppError):
    """A multipart body cannot be used.

    Args:
        part: the name of the part that is wrong; None if it is the body as a whole.
    """

    def __init__(self, detail: str | None = None, *, part: str | None = None) -> None:
        super().__init__(detail)
        self.part = part


class NotMultipart(UploadRefused):
    """The body is not multipart/form-data."""


class MalformedBody(UploadRefused):
    """The body is not well-formed multipart/form-data, or ends too early."""


class BodyTooLarge(UploadRefused):
    """The body has more bytes than the limit."""


class NotAcceptable(AppError):
    """No format satisfies the Accept header."""


class Overloaded(AppError):
    """Too much work is waiting."""


class LimitReached(AppError):
    """A limit of the API key is reached."""


class ModelUnavailable(AppError):
    """Every live worker refuses the model."""


class NotReady(AppError):
    """The job is not finished."""


class JobCancelled(AppError):
    """The job was cancelled."""


class JobFailed(AppError):
    """The job failed."""

    def __init__(self, code: FailureCode) -> None:
        super().__init__()
        self.code = code


class NotUsable(AppError):
    """Redis or the result store does not work."""


class ShuttingDown(AppError):
    """This process is about to end."""
