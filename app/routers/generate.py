"""POST /generate: pictures from noise."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from ..deps import NO_BODY, SINGLE_PARAMETERS, CatalogDep
from ..parameters import SamplingQuery, choose_model, fill_in
from ..submission import ANSWERS, SubmissionDep

router = APIRouter(tags=["generate"])


@router.post(
    "/generate",
    summary="Make pictures",
    dependencies=[SINGLE_PARAMETERS, NO_BODY],
    response_class=Response,
    responses=ANSWERS,
)
async def generate(
    query: Annotated[SamplingQuery, Query()], catalog: CatalogDep, submission: SubmissionDep
) -> Response:
    """Queues the job and waits for its pictures; answers 202 with the job where that takes too long."""
    model = choose_model(query.model, catalog)
    return await submission.answer(model.name, query, fill_in(query, model))
