"""The errors of the front end, each with its type of problem (RFC 9457).

Those about parameters and images are in `jobs.errors`. `app.http.problems` turns both into answers.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

from difuso.jobs.contract import FailureCode

from .formats import Format


@dataclass(frozen=True)
class ProblemType:
    """The values that all problems of one type share; `detail` is the default."""

    status: int
    slug: str
    title: str
    detail: str
    retry_after: int | None = None


INVALID = ProblemType(422, "invalid-request", "The request is invalid", "See errors.")
TOO_LARGE = ProblemType(413, "content-too-large", "Content too large", "The body is larger than this server allows.")


class AppError(Exception):
    """Base of every error of this package.

    The detail is for the caller, by default the text of the problem type. `retry_after` is in seconds, which are
    rounded up, 1 at least. The answer has the further `headers`.
    """

    problem: ClassVar[ProblemType]

    def __init__(self, detail: str | None = None, *, retry_after: float | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = None if retry_after is None else max(1, math.ceil(retry_after))
        self.headers: dict[str, str] = {}


class Unauthorized(AppError):
    problem = ProblemType(
        401, "unauthorized", "An API key is needed", "Send a valid API key in the header Authorization: Bearer KEY."
    )


class UnknownHost(AppError):
    problem = ProblemType(
        400, "unknown-host", "Unknown host", "The Host header names another server; use a name that this server allows."
    )


class CrossOrigin(AppError):
    problem = ProblemType(
        403,
        "cross-origin",
        "Refused to pages of other sites",
        "A page of another site may not change anything on this server; use this server's own page, or a program.",
    )


class NotAllowed(AppError):
    problem = ProblemType(
        403, "not-allowed", "The API key may not do this", "Ask the server's operator for a key with may=train."
    )


class InvalidRequest(AppError):
    """One part of the request is wrong: a query parameter or a header of this name, or what a JSON pointer names."""

    problem = INVALID

    def __init__(self, place: Literal["parameter", "header", "pointer"], name: str, detail: str) -> None:
        super().__init__(detail)
        self.place = place
        self.name = name


class UploadRefused(AppError):
    """A multipart body cannot be used: a part of it, or as a whole if `part` is None."""

    problem = INVALID

    def __init__(self, detail: str | None = None, *, part: str | None = None) -> None:
        super().__init__(detail)
        self.part = part


class NotMultipart(UploadRefused):
    problem = ProblemType(
        415, "unsupported-media-type", "Unsupported media type", "Send images as parts of multipart/form-data."
    )


class MalformedBody(UploadRefused):
    problem = ProblemType(
        400, "malformed-body", "Malformed body", "The body is not a complete multipart/form-data message."
    )


class BodyTooLarge(UploadRefused):
    problem = TOO_LARGE


class NotAcceptable(AppError):
    problem = ProblemType(
        406,
        "not-acceptable",
        "No acceptable format",
        f"Send an Accept header that allows one of {', '.join(reversed(Format))}.",
    )


class NoFilm(AppError):
    problem = ProblemType(404, "no-film", "The image has no film", "Only a run of several network calls has one.")


class Overloaded(AppError):
    problem = ProblemType(429, "overloaded", "Too much work is waiting", "Try again later.")


class LimitReached(AppError):
    problem = ProblemType(429, "limit-reached", "The API key's limit is reached", "Try again later.")


class ModelUnavailable(AppError):
    problem = ProblemType(503, "model-unavailable", "No worker can run this model", "See /models.", 30)


class NotUnderstood(AppError):
    problem = ProblemType(
        503, "not-understood", "No worker understands this request yet", "Try again when the workers are upgraded.", 30
    )


class NotReady(AppError):
    problem = ProblemType(409, "not-ready", "The job is not finished", "Ask again when it has succeeded.", 1)


class NameTaken(AppError):
    problem = ProblemType(409, "name-taken", "The name is taken", "A model or a training has it; choose another.")


class NotPossibleNow(AppError):
    problem = ProblemType(409, "not-possible-now", "Not possible in this state", "See the state of the training.")


class JobCancelled(AppError):
    problem = ProblemType(409, "job-cancelled", "The job was cancelled", "It has no images.")


class JobFailed(AppError):
    problem = ProblemType(500, "job-failed", "The job failed", "It has no images.")

    def __init__(self, code: FailureCode, reason: str | None = None) -> None:
        super().__init__()
        self.code, self.reason = code, reason


class ShuttingDown(AppError):
    problem = ProblemType(503, "shutting-down", "This server is shutting down", "Ask another server.", 5)
