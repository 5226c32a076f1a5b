"""/models: the models and their states."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.exceptions import HTTPException

from jobs.workers import reports_for

from ..deps import CatalogDep, QueueDep
from ..model_views import ModelList, ModelView

router = APIRouter(tags=["models"])


@router.get("/models", summary="List all models", response_model_exclude_none=True)
def list_models(catalog: CatalogDep, queue: QueueDep) -> ModelList:
    """Includes models that cannot be used, with the reason."""
    reports = queue.workers()
    found = [ModelView.of(model, reports_for(model.name, reports)) for model in catalog.models.values()]
    refused = [ModelView.refused(name, reason) for name, reason in catalog.refused.items()]
    return ModelList(default=catalog.default, models=found + refused)


@router.get("/models/{name}", summary="Get one model", response_model_exclude_none=True)
def get_model(name: str, catalog: CatalogDep, queue: QueueDep) -> ModelView:
    if name in catalog.refused:
        return ModelView.refused(name, catalog.refused[name])
    if name not in catalog.models:
        raise HTTPException(404)
    return ModelView.of(catalog.models[name], reports_for(name, queue.workers()))
