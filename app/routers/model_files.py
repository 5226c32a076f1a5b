"""/models/{name}/…: the files about a model, which are read from its folder and from nowhere else."""

from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import Literal

from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from difuso.jobs.model_folders import find_document

from ..cards import as_html
from ..formats import BINARY
from ..glance import glance
from ..http.headers import IfNoneMatchHeader, cached, choose_format, known_content, known_file
from ..requests.deps import Process, ProcessDep

router = APIRouter(tags=["models"])

HEADERS = {"Cache-Control": "private, no-cache"}
LOG = "text/plain"


class CardFormat(StrEnum):
    """The formats of a card; the last of those that a request accepts equally is sent."""

    HTML = "text/html"
    MARKDOWN = "text/markdown"


@router.get(
    "/models/{name}/card",
    summary="Get the description of a model",
    response_class=Response,
    responses=cached("Markdown, or its HTML", {each: {"schema": {"type": "string"}} for each in reversed(CardFormat)}),
)
def get_model_card(
    name: str, request: Request, process: ProcessDep, if_none_match: IfNoneMatchHeader = None
) -> Response:
    """Returns the README.md of the model's folder: its data, training, figures and licence.

    As HTML it has no images, no links within the folder and no elements of its own, and its headings begin at h3.
    """
    chosen = choose_format(", ".join(request.headers.getlist("accept")), list(CardFormat))
    path = _path(process, name, "card")
    headers = HEADERS | {"Vary": "Accept"}
    if chosen is CardFormat.MARKDOWN:
        return known_file(path, known=if_none_match, headers=headers, media_type=chosen)
    with suppress(OSError):
        made = as_html(path, path.stat().st_mtime_ns)
        return known_content(made, known=if_none_match, headers=headers, media_type=chosen)
    raise HTTPException(404)


@router.get(
    "/models/{name}/metrics",
    summary="Get the log of a model's training",
    response_class=Response,
    responses=cached("JSON, line by line", {LOG: {"schema": {"type": "string"}}}),
)
def get_model_metrics(name: str, process: ProcessDep, if_none_match: IfNoneMatchHeader = None) -> Response:
    """Returns the metrics.jsonl of the model's folder: the figures of its steps. Each stage counts them from 1."""
    return _file(process, name, "metrics", known=if_none_match, media_type=LOG)


@router.get(
    "/models/{name}/figures/{figure}",
    summary="Get a figure about a model",
    response_class=Response,
    responses=cached("The figure", {each: {"schema": BINARY} for each in ("image/png", "image/webp")}),
)
def get_model_figure(
    name: str,
    figure: Literal["sheet", "losses", "glance"],
    process: ProcessDep,
    if_none_match: IfNoneMatchHeader = None,
) -> Response:
    """Returns the sheet of samples or the curve of losses, where the model's folder has it.

    `glance` is the first eight samples of the sheet, as WebP.
    """
    if figure != "glance":
        return _file(process, name, figure, known=if_none_match, media_type="image/png")
    path = _path(process, name, "sheet")
    with suppress(OSError, ValueError, LookupError):
        made = glance(path, path.stat().st_mtime_ns, process.catalog.models[name].config.shape)
        return known_content(made, known=if_none_match, headers=HEADERS, media_type="image/webp")
    raise HTTPException(404)


def _file(process: Process, name: str, document: str, *, known: str | None, media_type: str) -> Response:
    return known_file(_path(process, name, document), known=known, headers=HEADERS, media_type=media_type)


def _path(process: Process, name: str, document: str) -> Path:
    """Returns the path of a file about a model; raises HTTPException, 404, if there is none, or the disk fails."""
    path = None
    with suppress(OSError):
        model = process.catalog.models.get(name)
        path = find_document(model.path, document) if model is not None else None
    if path is None:
        raise HTTPException(404)
    return path
