"""/models: the models and their states."""

from os.path import realpath
from pathlib import Path
from typing import Literal

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.responses import Response

from jobs.catalog import Catalog
from jobs.redis.workers import reports_for

from ..http import conditional
from ..http.headers import NOT_MODIFIED, IfNoneMatchHeader
from ..requests.deps import CatalogDep, QueueDep, SettingsDep
from ..requests.model_views import ModelList, ModelView
from ..settings import ApiSettings

router = APIRouter(tags=["models"])

CARD = "text/markdown"
CARD_BYTES, FIGURE_BYTES = 1 << 20, 1 << 24  # at most
HEADERS = {"Cache-Control": "private, no-cache"}
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
    responses={
        200: {"description": "Markdown", "content": {CARD: {"schema": {"type": "string"}}}},
        304: {"description": NOT_MODIFIED},
    },
)
def get_model_card(
    name: str, catalog: CatalogDep, settings: SettingsDep, if_none_match: IfNoneMatchHeader = None
) -> Response:
    """Returns the README.md of the model's folder: its data, training, figures and licence."""
    path = _inside(catalog, settings, name, "README.md", most=CARD_BYTES)
    return conditional.file(path, known=if_none_match, headers=HEADERS, media_type=CARD)


@router.get(
    "/models/{name}/figures/{figure}",
    summary="Get a figure about a model",
    response_class=Response,
    responses={
        200: {"description": "The figure", "content": {"image/png": {"schema": BINARY}}},
        304: {"description": NOT_MODIFIED},
    },
)
def get_model_figure(
    name: str,
    figure: Literal["sheet", "losses"],
    catalog: CatalogDep,
    settings: SettingsDep,
    if_none_match: IfNoneMatchHeader = None,
) -> Response:
    """Returns the sheet of samples or the curve of losses, where the model's folder has it."""
    path = _inside(catalog, settings, name, f"{figure}.png", most=FIGURE_BYTES)
    return conditional.file(path, known=if_none_match, headers=HEADERS, media_type="image/png")


def _inside(catalog: Catalog, settings: ApiSettings, name: str, file: str, *, most: int) -> Path:
    """Returns the path of a file in a model's folder; a link in the folder of a stranger may lead anywhere else.

    Raises:
        HTTPException: 404 if there is no such file, if it lies elsewhere, or if it has more than `most` bytes.
    """
    if name not in catalog.models:
        raise HTTPException(404)
    folder = Path(realpath(settings.models_dir / name))  # `Path.resolve` fails at a link to itself
    path = Path(realpath(folder / file))
    if not path.is_relative_to(folder) or not path.is_file() or path.stat().st_size > most:
        raise HTTPException(404)
    return path
