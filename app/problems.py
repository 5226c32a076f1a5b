"""Errors as RFC 9457 problems: one table, four handlers. docs/http-api.md describes each type."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Mount

from jobs import errors as jobs_errors
from jobs.contract import FailureCode
from model.errors import PlanError

from . import errors
from .formats import Format

MEDIA_TYPE = "application/problem+json"
METHODS = ("DELETE", "GET", "HEAD", "POST")
MAX_NAME = 64  # names of unknown parameters are the caller's text: shown, but not at any length


class Problem(BaseModel):
    """An error as RFC 9457 describes it.

    Attributes:
        type: a stable path, for programs.
        title: the same for every problem of a type.
        detail: what is wrong this time.
        instance: path of the request.
        errors: of invalid requests: `detail` and the `parameter`, `header`, `part` or `pointer` that it is about.
        code: of failed jobs, why.
        retry_after: seconds after which trying again may help.
        request_id: to look for in the server's log.
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


@dataclass(frozen=True)
class ProblemType:
    """One problem type: what is the same each time."""

    status: int
    slug: str
    title: str
    detail: str
    retry_after: int | None = None


# Looked up along the exception's bases, so that a new exception cannot fall through to a bare 500 by accident.
PROBLEMS: dict[type[Exception], ProblemType] = {
    jobs_errors.JobNotFound: ProblemType(
        404, "job-not-found", "No such job", "No job has this id: it never existed, or its time is over."
    ),
    jobs_errors.JobUnreadable: ProblemType(
        410, "job-unreadable", "Job of another version", "Another version wrote this job; submit it again."
    ),
    jobs_errors.IdempotencyConflict: ProblemType(
        422,
        "idempotency-conflict",
        "Idempotency-Key used for another request",
        "Use a new key, or repeat the first request unchanged.",
    ),
    jobs_errors.QueueUnavailable: ProblemType(
        503, "queue-unavailable", "The queue does not answer", "Nothing was accepted; try again later.", 2
    ),
    jobs_errors.ResultExpired: ProblemType(
        410, "result-expired", "The pictures were deleted", "Submit the job again with the same seed."
    ),
    jobs_errors.StoreUnavailable: ProblemType(
        503, "store-unavailable", "The result store does not answer", "Try again later.", 5
    ),
    errors.Unauthorized: ProblemType(
        401, "unauthorized", "An API key is needed", "Send one that this server knows as Authorization: Bearer KEY."
    ),
    errors.UnknownHost: ProblemType(
        400, "unknown-host", "Unknown host", "This server does not answer under the name of the Host header."
    ),
    jobs_errors.RequestRefused: ProblemType(422, "invalid-request", "The request is invalid", "See errors."),
    jobs_errors.ImageRefused: ProblemType(422, "invalid-request", "The request is invalid", "See errors."),
    PlanError: ProblemType(422, "invalid-request", "The request is invalid", "See errors."),
    errors.CrossOrigin: ProblemType(
        403,
        "cross-origin",
        "Refused to pages of other sites",
        "A page from another address may not change anything here; use this server's own page, or a program.",
    ),
    errors.InvalidRequest: ProblemType(422, "invalid-request", "The request is invalid", "See errors."),
    RequestValidationError: ProblemType(422, "invalid-request", "The request is invalid", "See errors."),
    errors.UploadRefused: ProblemType(422, "invalid-request", "The request is invalid", "See errors."),
    errors.NotMultipart: ProblemType(
        415, "unsupported-media-type", "Unsupported media type", "Send pictures as parts of multipart/form-data."
    ),
    errors.MalformedBody: ProblemType(
        400, "malformed-body", "Malformed body", "The body is no complete multipart/form-data message."
    ),
    errors.BodyTooLarge: ProblemType(
        413, "content-too-large", "Content too large", "The body is larger than this server reads."
    ),
    jobs_errors.UnsupportedFormat: ProblemType(
        415, "unsupported-format", "Unsupported picture format", "Send a PNG or JPEG file."
    ),
    jobs_errors.BadImage: ProblemType(
        422, "bad-image", "The picture cannot be read", "The file is damaged or incomplete; save the picture again."
    ),
    jobs_errors.ImageTooLarge: ProblemType(
        422, "image-too-large", "The picture is too large", "Scale the picture down."
    ),
    jobs_errors.AnimatedImage: ProblemType(422, "animated-image", "The picture is animated", "Send one still picture."),
    jobs_errors.ImageTooComplex: ProblemType(
        422,
        "image-too-complex",
        "The picture is too complex",
        "The file has more pieces than any picture needs; save the picture again.",
    ),
    errors.NotAcceptable: ProblemType(
        406,
        "not-acceptable",
        "No acceptable format",
        f"Accept one of {', '.join(reversed(Format))}.",
    ),
    errors.Overloaded: ProblemType(429, "overloaded", "Too much work is waiting", "Try again later."),
    errors.LimitReached: ProblemType(429, "limit-reached", "The API key's limit is reached", "Try again later."),
    errors.ModelUnavailable: ProblemType(503, "model-unavailable", "No worker can run this model", "See /models.", 30),
    errors.NotReady: ProblemType(409, "not-ready", "The job is not finished", "Wait for it to succeed.", 1),
    errors.JobCancelled: ProblemType(409, "job-cancelled", "The job was cancelled", "It has no pictures."),
    errors.JobFailed: ProblemType(500, "job-failed", "The job failed", "It has no pictures."),
    errors.NotUsable: ProblemType(503, "not-ready-to-serve", "Not ready to serve", "Redis or the store is away.", 5),
    errors.ShuttingDown: ProblemType(503, "shutting-down", "This server is shutting down", "Ask another one.", 5),
    Exception: ProblemType(500, "internal", "Internal error", "The server's log says more under this request id."),
}

FAILURES: dict[FailureCode, tuple[int, str]] = {
    FailureCode.TIMEOUT: (504, "It ran longer than its limit."),
    FailureCode.NONFINITE: (500, "The network produced NaN or infinity."),
    FailureCode.UNSUPPORTED: (501, "No worker understands this job."),
    FailureCode.STORAGE: (507, "Pictures could not be stored, or not be read back."),
    FailureCode.WORKER_LOST: (502, "Its workers died while they ran it."),
    FailureCode.INTERNAL: (500, "The worker failed; its log says more."),
}

HTTP: dict[int, tuple[str, str]] = {
    404: ("Not found", "Nothing is at this path."),
    405: ("Method not allowed", "See the Allow header."),
    413: ("Content too large", "The body is larger than this server reads."),
}

# Every route answers errors this way; the schema stands in place, since FastAPI would call a model application/json.
RESPONSES: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "Any error, as a problem (RFC 9457)",
        "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema(ref_template="#/components/schemas/{model}")}},
    }
}


def answer(request: Request, error: Exception) -> Response:
    """The problem that an exception is to the caller; never its own text unless that was written for callers."""
    if isinstance(error, HTTPException):
        headers = {**(error.headers or {}), **(_allowed(request) if error.status_code == 405 else {})}
        return _respond(request, _http_kind(error), headers=headers)
    kind = next(PROBLEMS[base] for base in type(error).__mro__ if base in PROBLEMS)
    if isinstance(error, RequestValidationError):
        return _invalid(request, kind, [_field_error(found) for found in error.errors()])
    if isinstance(error, errors.InvalidRequest):
        return _invalid(request, kind, [{"detail": error.detail or "", error.place: error.name}])
    if isinstance(error, jobs_errors.RequestRefused):
        return _invalid(request, kind, [{"detail": error.detail, "parameter": error.parameter}])
    if isinstance(error, PlanError):
        reason = error.reason[:1].upper() + error.reason[1:]
        return _invalid(request, kind, [{"detail": reason, "parameter": error.parameter or "model"}])
    if isinstance(error, errors.UploadRefused | jobs_errors.ImageRefused) and error.part is not None:
        return _invalid(request, kind, [{"detail": error.detail or kind.detail, "part": error.part}])
    if isinstance(error, errors.JobFailed):
        status, detail = FAILURES[error.code]
        return _respond(request, kind, status=status, detail=detail, code=error.code)
    if isinstance(error, errors.Unauthorized):
        return _respond(request, kind, headers={"WWW-Authenticate": 'Bearer realm="difuso"'})
    if isinstance(error, errors.AppError):
        return _respond(request, kind, detail=error.detail, retry_after=error.retry_after)
    return _respond(request, kind)


def install(app: FastAPI) -> None:
    """Registers the handlers; what is left over ends in `app.middleware`, which logs it."""

    async def handle(request: Request, error: Exception) -> Response:
        if isinstance(error, jobs_errors.QueueUnavailable):
            app.state.metrics.redis_error(getattr(request.scope.get("route"), "name", "other"))
        if isinstance(error, errors.UploadRefused | jobs_errors.ImageRefused):
            app.state.metrics.upload_rejected(PROBLEMS[type(error)].slug)
        return answer(request, error)

    for kind in (HTTPException, RequestValidationError, PlanError, jobs_errors.JobsError, errors.AppError):
        app.add_exception_handler(kind, handle)


def _allowed(request: Request) -> dict[str, str]:
    """The Allow header of a path; the framework names the methods of one of its routes alone."""
    scope = {"type": "http", "path": request.scope["path"], "root_path": "", "headers": []}
    routes = [route for route in request.app.routes if not isinstance(route, Mount)]
    methods = [
        method
        for method in METHODS
        if any(route.matches({**scope, "method": method})[0] is Match.FULL for route in routes)
    ]
    return {"Allow": ", ".join(methods)} if methods else {}


def _http_kind(error: HTTPException) -> ProblemType:
    """What the framework refuses by itself; named here, since Python's names of statuses change between versions."""
    title, detail = HTTP.get(error.status_code, ("HTTP error", "The server does not do this."))
    return ProblemType(error.status_code, title.lower().replace(" ", "-"), title, detail)


def _field_error(found: dict[str, Any]) -> dict[str, str]:
    """What pydantic found, without the value that was sent."""
    source, *path = found["loc"]
    place = {"query": "parameter", "path": "parameter", "header": "header"}.get(source, "pointer")
    name = "/".join(map(str, path if place == "pointer" else path[:1]))[:MAX_NAME]  # a repeated one has an index too
    detail = "This parameter is not known here" if found["type"] == "extra_forbidden" else found["msg"]
    return {"detail": detail, place: f"/{name}" if place == "pointer" else name}


def _invalid(request: Request, kind: ProblemType, found: list[dict[str, str]]) -> Response:
    named = [
        f"{error.get('parameter') or error.get('header') or error.get('part') or 'body'}: {error['detail']}"
        for error in found
    ]
    return _respond(request, kind, detail="; ".join(named), errors=found)


def _respond(
    request: Request,
    kind: ProblemType,
    *,
    status: int | None = None,
    detail: str | None = None,
    retry_after: float | None = None,
    headers: dict[str, str] | None = None,
    **extensions: Any,
) -> Response:
    wait = math.ceil(retry_after) if retry_after is not None else kind.retry_after
    problem = Problem(
        type=f"/problems/{kind.slug}",
        title=kind.title,
        status=status or kind.status,
        detail=detail or kind.detail,
        instance=request.url.path,
        retry_after=wait,
        request_id=getattr(request.state, "request_id", None),
        **extensions,
    )
    extra = {"Retry-After": str(wait)} if wait is not None else {}
    return Response(
        problem.model_dump_json(exclude_none=True), problem.status, {**(headers or {}), **extra}, media_type=MEDIA_TYPE
    )
