"""Errors as problems (RFC 9457): a table of their types, and the handler. docs/http-api.md describes each type."""

import logging
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from redis import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from difuso.jobs import errors as jobs_errors
from difuso.jobs.contract import FailureCode
from difuso.jobs.redis.refusals import takes_no_writes
from difuso.jobs.trainings.archives import DatasetRefused
from difuso.jobs.trainings.datasets import DatasetNotFound
from difuso.jobs.trainings.records import TrainingNotFound
from difuso.model.errors import PlanError

from .. import errors
from ..errors import INVALID, TOO_LARGE, ProblemType

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
MAX_ERRORS = 20  # that are shown of one request, which may have thousands of unknown names
MAX_NAME = 64  # characters that are shown of an unknown name, which is the caller's own text


class Problem(BaseModel):
    """An error as RFC 9457 describes it. `type` is stable, for programs, and `detail` is for people.

    An invalid request has `errors`: each `detail` with the `parameter`, `header`, `part` or `pointer` that is wrong.
    A failed job has its `code`. `request_id` is the id of the request in the server's log.
    """

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[dict[str, str]] | None = None
    code: FailureCode | None = None
    retry_after: int | None = None
    request_id: str | None = None


def _of_image(refused: type[jobs_errors.ImageRefused], slug: str, *, status: int = 422) -> ProblemType:
    return ProblemType(status, slug, refused.title, refused.advice)


MALFORMED = ProblemType(
    400, "malformed-request", "Malformed request", "This is not valid HTTP, or its URL and headers exceed 16 KiB."
)

QUEUE_FULL = ProblemType(
    503, "queue-full", "The queue has no room", "It can take no changes now. Nothing was accepted; try again later.", 10
)

# An exception without an entry gets that of its nearest base class. Those of `app.errors` name theirs.
PROBLEMS: dict[type[Exception], ProblemType] = {
    jobs_errors.JobNotFound: ProblemType(
        404, "job-not-found", "No such job", "No job has this id: it never existed, or it was forgotten after its time."
    ),
    DatasetNotFound: ProblemType(
        404, "dataset-not-found", "No such dataset", "You have none of this name: it was deleted, or its time is over."
    ),
    TrainingNotFound: ProblemType(
        404, "training-not-found", "No such training", "You have none of this id: it never existed, or was deleted."
    ),
    jobs_errors.JobUnreadable: ProblemType(
        410, "job-unreadable", "The job cannot be read", "Its record is damaged; submit it again."
    ),
    jobs_errors.JobIsNewer: ProblemType(
        503,
        "job-is-newer",
        "The job needs a newer server",
        "A newer version of difuso accepted this job, and it is kept; ask again when such a server is back.",
        30,
    ),
    jobs_errors.PluginMissing: ProblemType(
        503,
        "plugin-missing",
        "The job needs a plug-in",
        "This server lacks the plug-in with the sampler of this job, which is kept; ask its operator for it.",
        30,
    ),
    jobs_errors.VersionGone: ProblemType(
        409,
        "version-gone",
        "Nobody has this version of the model",
        "Leave out version, or name one of GET /models.",
    ),
    jobs_errors.IdempotencyConflict: ProblemType(
        422,
        "idempotency-conflict",
        "Idempotency-Key used for another request",
        "Use a new key, or repeat the first request unchanged.",
    ),
    RedisError: ProblemType(
        503, "queue-unavailable", "The queue does not answer", "Nothing was accepted; try again later.", 2
    ),
    jobs_errors.ResultExpired: ProblemType(
        410, "result-expired", "The images were deleted", "Submit the job again with the same seed."
    ),
    jobs_errors.StoreUnavailable: ProblemType(
        503, "store-unavailable", "The result store does not answer", "Try again later.", 5
    ),
    jobs_errors.RequestRefused: INVALID,
    jobs_errors.ImageRefused: INVALID,
    DatasetRefused: INVALID,
    PlanError: INVALID,
    RequestValidationError: INVALID,
    jobs_errors.UnsupportedFormat: _of_image(jobs_errors.UnsupportedFormat, "unsupported-format", status=415),
    jobs_errors.BadImage: _of_image(jobs_errors.BadImage, "bad-image"),
    jobs_errors.ImageTooLarge: _of_image(jobs_errors.ImageTooLarge, "image-too-large"),
    jobs_errors.AnimatedImage: _of_image(jobs_errors.AnimatedImage, "animated-image"),
    jobs_errors.ImageTooComplex: _of_image(jobs_errors.ImageTooComplex, "image-too-complex"),
    Exception: ProblemType(500, "internal", "Internal error", "The server's log has the error under this request id."),
    **{each: each.problem for base in (errors.AppError, errors.UploadRefused) for each in base.__subclasses__()},
}

FAILURES: dict[FailureCode, tuple[int, str]] = {
    FailureCode.TIMEOUT: (504, "The job ran longer than its time limit."),
    FailureCode.NONFINITE: (500, "The network produced NaN or infinity."),
    FailureCode.NETWORK: (500, "The code of the model's network failed; the worker's log has the error."),
    FailureCode.UNSUPPORTED: (501, "No worker understands this job."),
    FailureCode.VERSION_GONE: (409, "No worker holds the version of the model that was asked for any longer."),
    FailureCode.REFUSED: (503, "Every worker refuses the model."),
    FailureCode.STORAGE: (507, "The images could not be written or read."),
    FailureCode.WORKER_LOST: (502, "The workers died while they ran the job."),
    FailureCode.INTERNAL: (500, "The worker failed; its log has the error."),
}

# Errors of the framework by status; Python's own status names differ between versions.
HTTP: dict[int, ProblemType] = {
    404: ProblemType(404, "not-found", "Not found", "There is nothing at this path."),
    405: ProblemType(405, "method-not-allowed", "Method not allowed", "Use a method of the Allow header."),
    413: TOO_LARGE,
}

OTHER = ProblemType(400, "http-error", "HTTP error", "The server refused the request; see the status.")

# The description of all errors; `app.openapi` corrects the media type that FastAPI gives them.
RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "Any error, as a problem (RFC 9457)",
        "model": Problem,
    }
}


def answer(request: Request, error: Exception) -> Response:
    """Returns the problem of an exception, with the exception's own text only if it was written for callers."""
    if isinstance(error, HTTPException):
        code = error.status_code
        return _respond(request, HTTP.get(code, OTHER), {"status": code}, error.headers or {})
    kind = QUEUE_FULL if takes_no_writes(error) else next(PROBLEMS[b] for b in type(error).__mro__ if b in PROBLEMS)
    fields: dict[str, Any] = {}
    headers = error.headers if isinstance(error, errors.AppError) else {}
    if found := _wrong_parts(error, kind):
        names = (each.get("parameter") or each.get("header") or each.get("part") or "body" for each in found)
        named = (f"{name}: {each['detail']}" for name, each in zip(names, found, strict=True))
        fields = {"errors": found, "detail": "; ".join(named)}
    elif isinstance(error, errors.JobFailed):
        status, detail = FAILURES[error.code]
        detail = error.reason or detail
        fields = {"status": status, "detail": detail, "code": error.code}
    elif isinstance(error, jobs_errors.VersionGone):
        fields = {"detail": str(error)}
    elif isinstance(error, errors.Unauthorized):
        headers = {"WWW-Authenticate": 'Bearer realm="difuso"'}
    elif isinstance(error, errors.AppError):
        own = {"detail": error.detail, "retry_after": error.retry_after}
        fields = {name: value for name, value in own.items() if value is not None}
    return _respond(request, kind, fields, headers)


def _wrong_parts(error: Exception, kind: ProblemType) -> list[dict[str, str]]:
    """Returns the entries of `Problem.errors`; none if no part of the request is at fault."""
    match error:
        case RequestValidationError():
            return [_field_error(found) for found in error.errors()[:MAX_ERRORS]]
        case errors.InvalidRequest():
            return [{"detail": error.detail or "", error.place: error.name}]
        case jobs_errors.RequestRefused():
            return [{"detail": error.detail, "parameter": error.parameter}]
        case PlanError():
            reason = error.reason[:1].upper() + error.reason[1:]
            return [{"detail": reason, "parameter": error.parameter or "model"}]
        case (
            errors.UploadRefused(part=str(part)) | jobs_errors.ImageRefused(part=str(part)) | DatasetRefused(part=part)
        ):
            return [{"detail": error.detail or kind.detail, "part": part}]
    return []


def problem(kind: ProblemType, **fields: Any) -> Problem:
    """Returns a problem of a type; `fields` are those that the type does not give, or gives otherwise."""
    own: dict[str, Any] = {
        "type": f"/problems/{kind.slug}",
        "title": kind.title,
        "status": kind.status,
        "detail": kind.detail,
        "retry_after": kind.retry_after,
    }
    return Problem(**own | fields)


def install(app: FastAPI) -> None:
    """Registers the handler of all expected exceptions; `app.http.middleware` logs and answers the others."""

    async def handle(request: Request, error: Exception) -> Response:
        if isinstance(error, RedisError):
            app.state.metrics.redis_errors.labels(getattr(request.scope.get("route"), "name", "other")).inc()
            if takes_no_writes(error):
                log.warning("Redis takes no writes", extra={"error": ascii(error)[:200]})
        if isinstance(error, errors.UploadRefused | jobs_errors.ImageRefused):
            app.state.metrics.uploads_rejected.labels(PROBLEMS[type(error)].slug).inc()
        return answer(request, error)

    for kind in (HTTPException, RequestValidationError, PlanError, RedisError, jobs_errors.JobsError, errors.AppError):
        app.add_exception_handler(kind, handle)


def _field_error(found: dict[str, Any]) -> dict[str, str]:
    """Converts an error of pydantic, without the value that was sent."""
    source, *path = found["loc"]
    if source == "body" and (not path or found["type"] == "json_invalid"):
        return {"detail": "The body should be a JSON object, with Content-Type: application/json", "pointer": ""}
    place = {"query": "parameter", "path": "parameter", "header": "header"}.get(source, "pointer")
    name = "/".join(map(str, path if place == "pointer" else path[:1]))[:MAX_NAME]  # without the index in a list
    detail = "This is not a parameter of this request" if found["type"] == "extra_forbidden" else found["msg"]
    return {"detail": detail, place: f"/{name}" if place == "pointer" else name}


def _respond(request: Request, kind: ProblemType, fields: dict[str, Any], headers: Mapping[str, str]) -> Response:
    request_id = getattr(request.state, "request_id", None)
    found = problem(kind, instance=request.url.path, request_id=request_id, **fields)
    wait = {} if found.retry_after is None else {"Retry-After": str(found.retry_after)}
    return Response(found.model_dump_json(exclude_none=True), found.status, {**headers, **wait}, media_type=MEDIA_TYPE)
