"""POST /interpolate, /denoise, /restore: pictures from pictures."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from PIL.Image import Image

from ..deps import ONLY_LAMBDA_TWICE, SINGLE_PARAMETERS, CatalogDep, UploadsDep
from ..noise_estimate import estimate_sigma
from ..parameters import choose_model
from ..pictures import Fitted, fit
from ..submission import ANSWERS, SubmissionDep
from ..tasks import (
    DenoiseQuery,
    InterpolateQuery,
    RestoreQuery,
    denoising,
    interpolation,
    matched,
    restore_parts,
    restoring,
)
from ..uploads import request_body

router = APIRouter(tags=["pictures in, pictures out"])
ROUTE: dict[str, Any] = {"response_class": Response, "responses": ANSWERS}


@router.post(
    "/interpolate",
    summary="Pictures between two",
    dependencies=[ONLY_LAMBDA_TWICE],
    openapi_extra=request_body("image_a", "image_b"),
    **ROUTE,
)
async def interpolate(
    request: Request,
    query: Annotated[InterpolateQuery, Query()],
    catalog: CatalogDep,
    uploads: UploadsDep,
    submission: SubmissionDep,
) -> Response:
    """The answer for several `lambda` is a strip between both ends, or an animation with `Accept: image/apng`."""
    model = choose_model(query.model, catalog)
    params, task = interpolation(query, model)
    fitted = partial(fit, size=model.image_size, channels=model.channels, how=query.fit)
    sent = await uploads.read(request, {"image_a": fitted, "image_b": fitted})
    return await submission.answer(model.name, query, params, task, [sent["image_a"], sent["image_b"]])


@router.post(
    "/denoise",
    summary="A picture without its noise, or drawn anew",
    dependencies=[SINGLE_PARAMETERS],
    openapi_extra=request_body("image"),
    **ROUTE,
)
async def denoise(
    request: Request,
    query: Annotated[DenoiseQuery, Query()],
    catalog: CatalogDep,
    uploads: UploadsDep,
    submission: SubmissionDep,
) -> Response:
    """Without `sigma`, `t` and `strength` the noise is estimated; the job says how much was found."""
    model = choose_model(query.model, catalog)
    if query.says_how_noisy:
        denoising(query, model, estimate=0.0)  # refuses what it can before the picture is read

    def prepare(picture: Image) -> tuple[Fitted, float]:
        fitted = fit(picture, size=model.image_size, channels=model.channels, how=query.fit)
        return fitted, 0.0 if query.says_how_noisy else estimate_sigma(fitted.png)

    picture, estimate = (await uploads.read(request, {"image": prepare}))["image"]
    params, task = denoising(query, model, estimate=estimate)
    return await submission.answer(model.name, query, params, task, [picture])


@router.post(
    "/restore",
    summary="A picture undone of a degradation",
    dependencies=[SINGLE_PARAMETERS],
    openapi_extra=request_body("image", optional=("mask",)),
    **ROUTE,
)
async def restore(
    request: Request,
    query: Annotated[RestoreQuery, Query()],
    catalog: CatalogDep,
    uploads: UploadsDep,
    submission: SubmissionDep,
) -> Response:
    """`inpaint` needs a part `mask`, white where the picture is missing."""
    model = choose_model(query.model, catalog)
    params, task = restoring(query, model)
    parts = restore_parts(query, model)
    sent = await uploads.read(request, parts)
    return await submission.answer(model.name, query, params, task, matched(sent))
