"""/models: the models and their states."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response

from jobs.catalog import Catalog
from jobs.workers import reports_for

from ..deps import CatalogDep, QueueDep, SettingsDep
from ..model_views import ModelList, ModelView
from ..settings import ApiSettings

router = APIRouter(tags=["models"])

CARD = "text/markdown"
BINARY = {"type": "string", "format": "binary"}


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


@router.get(
    "/models/{name}/card",
    summary="Get the description of a model",
    response_class=Response,
    responses={200: {"description": "Markdown", "content": {CARD: {"schema": {"type": "string"}}}}},
)
def get_model_card(name: str, catalog: CatalogDep, settings: SettingsDep) -> Response:
    """Returns the README.md of the model's folder: its data, training, figures and licence."""
    return _file(catalog, settings, name, "README.md", media_type=CARD)


@router.get(
    "/models/{name}/figures/{figure}",
    summary="Get a figure about a model",
    response_class=Response,
    responses={200: {"description": "The figure", "content": {"image/png": {"schema": BINARY}}}},
)
def get_model_figure(
    name: str, figure: Literal["sheet", "losses"], catalog: CatalogDep, settings: SettingsDep
) -> Response:
    """Returns the sheet of samples or the curve of losses, where the model's folder has it."""
    return _file(catalog, settings, name, f"{figure}.png", media_type="image/png")


def _file(catalog: Catalog, settings: ApiSettings, name: str, file: str, *, media_type: str) -> Response:
    """Returns a file of a model's folder. The name is one of the catalog's, so it cannot lead elsewhere."""
    path: Path = settings.models_dir / name / file
    if name not in catalog.models or not path.is_file():
        raise HTTPException(404)
    return FileResponse(path, media_type=media_type, headers={"Cache-Control": "private, no-cache"})
