"""POST /generate, /interpolate, /denoise, /restore, /upscale: one route for each kind of job."""

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field, create_model
from starlette.concurrency import run_in_threadpool

from jobs.conditions import split_image_conditions
from jobs.errors import RequestRefused
from jobs.kinds import KINDS
from jobs.kinds.base import Kind

from ..requests.deps import ProcessDep, single_parameters
from ..requests.json_bodies import JsonRoute, decoded, json_schema
from ..requests.submission import ANSWERS, SubmissionDep
from ..requests.uploads import SENT, request_body

# Without `from __future__ import annotations`: FastAPI needs the type of the query in the annotation below.

router = APIRouter(tags=["jobs"], route_class=JsonRoute)


@cache  # the endpoint and its description ask for it
def _query(kind: Kind[Any]) -> type[Any]:
    """Returns the query of a kind with `dry_run`, which is about the answer: no job and no hash of a request has it."""
    description = "answer with the price of the request, without making a job"
    dry_run = Field(default=False, exclude=True, description=description)
    return create_model(kind.query.__name__, __base__=kind.query, dry_run=(bool, dry_run))


def _post(kind: Kind[Any]) -> Callable[..., Awaitable[Response]]:
    """Returns the endpoint of a kind of job."""

    async def post(
        request: Request,
        query: Annotated[_query(kind), Query()],  # type: ignore[valid-type]
        process: ProcessDep,
        submission: SubmissionDep,
    ) -> Response:
        model = kind.choose(query, process.catalog.at(query.version))
        submission.accept.choose(model.final_shape.planes)  # refuses before an image is read
        rest, texts = split_image_conditions(query.condition, model.config.conditions)
        sent: dict[str, bytes] | None = request.scope.get(SENT)
        for name, text in texts.items():  # images in base64
            if sent is None or name in sent:
                raise RequestRefused("condition", f"{name}: Input should be one image, in a form or in a JSON body")
            sent[name] = decoded(text, name)
        if texts:
            query = query.model_copy(update={"condition": rest})
        draft = await run_in_threadpool(kind.draft, query, model)
        images = await process.uploads.read(request, draft.fits, optional=draft.optional, instead=kind.instead)
        prepared = await run_in_threadpool(draft.with_images, images)
        if query.dry_run:
            return await submission.price(model, query, prepared)
        return await submission.answer(model, query, prepared)

    return post


for _kind in KINDS.values():
    _json = json_schema(_kind, _query(_kind))
    _body = request_body(*_kind.required, json=_json, optional=_kind.optional, instead=_kind.instead)
    router.post(
        f"/{_kind.name}",
        name=_kind.name,
        summary=_kind.summary,
        description=_kind.description or None,
        dependencies=[single_parameters(_kind.query)],
        openapi_extra=_body,
        response_class=Response,
        responses=ANSWERS,
    )(_post(_kind))
