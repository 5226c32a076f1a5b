"""POST /generate, /interpolate, /denoise, /restore, /upscale: one route for each kind of job."""

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import Field, create_model
from starlette.concurrency import run_in_threadpool

from difuso.jobs.conditions import split_files
from difuso.jobs.errors import RequestRefused
from difuso.jobs.kinds import KINDS
from difuso.jobs.kinds.base import Kind

from ..requests.answers import ANSWERS
from ..requests.kind_requests import decoded, json_schema, query_parameters, received
from ..requests.submission import SubmissionDep
from ..requests.uploads import request_body

router = APIRouter(tags=["jobs"])


def _query(kind: Kind[Any]) -> type[Any]:
    """Returns the query of a kind with `dry_run`, which is about the answer: no job and no hash of a request has it."""
    description = "answer with the price of the request, without making a job"
    dry_run = Field(default=False, exclude=True, description=description)
    return create_model(kind.query.__name__, __base__=kind.query, dry_run=(bool, dry_run))


def _post(kind: Kind[Any], query_type: type[Any]) -> Callable[..., Awaitable[Response]]:
    async def post(request: Request, submission: SubmissionDep) -> Response:
        process = submission.process
        async with received(request, kind, query_type, process.uploads) as (query, sent):
            model = kind.choose(query, submission.catalog)
            submission.accept.choose(model.final_shape.planes)  # refuses before an image is read
            conditions, files = split_files(query.conditions, model.config.conditions)
            for name, content in files.items():
                if sent is None:
                    detail = f"{name}: Input should be one file, in a form or in a JSON body"
                    raise RequestRefused("condition", detail)
                sent[name] = decoded(content, name)
            if files:
                query = query.model_copy(update={"conditions": conditions})
            parts = kind.parts(query, model)
            images = await process.uploads.read(
                request, parts.fits, sent=sent, optional=parts.optional, instead=kind.instead
            )
            if sent is None and not images:  # without a body a request is small, and a thread costs more
                prepared = kind.prepare(query, model, images)
            else:
                prepared = await run_in_threadpool(kind.prepare, query, model, images)
            answering = submission.price if query.dry_run else submission.answer
            return await answering(model, query, prepared)

    return post


for _kind in KINDS.values():
    _type = _query(_kind)
    _body = request_body(
        *_kind.required, json=json_schema(_kind, _type), optional=_kind.optional, instead=_kind.instead
    )
    router.post(
        f"/{_kind.name}",
        name=_kind.name,
        summary=_kind.summary,
        description=_kind.description or None,
        openapi_extra={"parameters": query_parameters(_type), **_body},
        response_class=Response,
        responses=ANSWERS,
    )(_post(_kind, _type))
