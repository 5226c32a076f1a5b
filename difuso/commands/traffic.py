"""`difuso traffic`: the shares of its requests that versions of a model get, and how these versions do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from difuso.jobs.catalog import Catalog, ModelInfo, read_catalog
from difuso.jobs.traffic import SHARES, text_of
from difuso.model.errors import CheckpointError
from difuso.model.folders.files import DIGITS, QUALITY, read_json

from ..drawing.remote_drawing import connected
from ..errors import UserError
from ..models_folder import models_folder
from ..options import API_KEY, ModelsDir, read_settings
from ..terminal import printable

if TYPE_CHECKING:
    from difuso.app.settings import ApiSettings

JOBS = 1000  # of a model that are read from a server, the last ones
FIGURES = ("FID", "FD", "KID")  # of those in quality.json, the ones that are shown

Columns = dict[str, dict[str, str]]  # the cells by version, of each column by its heading


def traffic(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of a model.")],
    shares: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="VERSION=SHARE",
            help="First digits of a version, or the name of its folder, and its share of 100; the current version gets "
            "the rest.",
        ),
    ] = None,
    back: Annotated[bool, typer.Option("--back", help="Let all requests get the current version again.")] = False,
    server: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help=f"Address of a front end, whose last {JOBS} jobs of the model are compared; {API_KEY} holds the key, "
            "an operator's for the jobs of all.",
        ),
    ] = None,
    models_dir: ModelsDir = None,
) -> None:
    """Shows the shares of a model's requests that its versions get, or sets all of them; servers follow in 30 s."""
    from difuso.app.settings import ApiSettings  # which fetches no weights from an address

    if back and shares:
        raise UserError("give shares or --back")
    settings = read_settings(ApiSettings, models_dir=models_dir)
    catalog = _catalog(settings)
    models = catalog.versions.get(name, ())
    if not models and (shares or back or server is None):
        known = ", ".join(catalog.models) or "none"
        raise UserError(f"{name} is not among the models in {settings.models_place}: {known}")
    if shares or back:
        _write(settings, models, _given(models, shares) if shares else None)
        catalog = _catalog(settings)
    if server is None:
        parts, jobs = catalog.parts_of(name), Columns()
        facts = ((each.version, each.folder, parts.get(each.version, 0.0)) for each in models)
        versions = [dict(zip(("version", "folder", "share"), each, strict=True)) for each in facts]
    else:
        versions, jobs = _at(server, name)
    _print(name, versions, {**jobs, "quality": {each.version: _quality(each) for each in models}})


def _catalog(settings: ApiSettings) -> Catalog:
    models_folder(settings)
    return read_catalog(*settings.models_dirs)


def _given(models: Sequence[ModelInfo], words: Sequence[str]) -> dict[str, float]:
    """Returns the shares that words such as 1a2b=10 give to versions, and to the current one, the last, of 100."""
    current = models[0].version
    shares: dict[str, float] = {}
    for word in words:
        named, _, number = word.rpartition("=")
        found = [each.version for each in models if named and (each.folder == named or each.version.startswith(named))]
        known = ", ".join(f"{each.version[:DIGITS]} ({each.folder})" for each in models)
        if len(found) != 1:
            raise UserError(f"{word}: {named!r} must name one version of {models[0].name}: {known}")
        if found[0] == current:
            raise UserError(f"{word}: this is the current version, which gets the rest of 100")
        shares[found[0]] = math.nan
        with suppress(ValueError):
            shares[found[0]] = float(number)
        if not 0 <= shares[found[0]] <= 100:
            raise UserError(f"{word}: the share must be a number from 0 to 100, not {number!r}")
    if sum(shares.values()) > 100:
        raise UserError(f"the shares must be at most 100 together, not {sum(shares.values()):g}")
    return {**shares, current: round(100 - sum(shares.values()), 9)}


def _write(settings: ApiSettings, models: Sequence[ModelInfo], shares: Mapping[str, float] | None) -> None:
    """Writes the shares of a model to where its folders came from; None removes them."""
    from difuso.jobs.store.blobs import Blobs

    folder = models[0].path.parent
    fetched = settings.models_address is not None and folder == settings.models_dirs[0]
    place = settings.models_place if fetched else str(folder.absolute())
    blobs = Blobs(place)
    path = blobs.root / f"{models[0].name}{SHARES}"
    try:
        if shares is not None:
            blobs.write(path, text_of(shares).encode())
        elif blobs.size(path) is not None:
            blobs.delete(path)
    except Exception as error:  # errors of the disk, the network and the bucket's client
        raise UserError(f"{path.name} cannot be written to {place}: {error}") from error


def _at(server: str, name: str) -> tuple[list[dict[str, Any]], Columns]:
    """Returns the versions of a model as a server shows them, and what the last jobs tell about each."""
    with connected(server) as client:
        models = {each["name"]: each.get("versions", []) for each in client.models()["models"]}
        if name not in models:
            raise UserError(f"{name} is not among the models of {server}: {', '.join(models) or 'none'}")
        found = [job.facts for job in islice(client.jobs(model=name), JOBS)]
    columns, known = _jobs(found), {each["version"] for each in models[name]}
    gone = [{"version": version} for version in columns["jobs"] if version not in known]
    return models[name] + gone, columns


def _jobs(found: Sequence[Mapping[str, Any]]) -> Columns:
    """Returns what jobs tell about their versions: how many there are, and how long those took that succeeded."""
    columns: Columns = {heading: {} for heading in ("jobs", "seen", "failed", "median", "p95")}
    for version in {job["version"] for job in found}:
        mine = [job for job in found if job["version"] == version]
        failed = sum(job["state"] == "failed" for job in mine)
        took = [job["timings"]["total"] for job in mine if job["state"] == "succeeded"]
        times = [f"{each:.2f} s" for each in np.percentile(took, [50, 95])] if took else ["", ""]
        cells = str(len(mine)), f"{100 * len(mine) / len(found):.3g} %", str(failed), *times
        for column, cell in zip(columns.values(), cells, strict=True):
            column[version] = cell
    return columns


def _quality(model: ModelInfo) -> str:
    """Returns the first figures that `difuso evaluate quality` has left in the folder of a version."""
    with suppress(CheckpointError, OSError, LookupError, TypeError, ValueError):
        row = read_json(model.path, QUALITY)["rows"][0]
        named = {name.partition("-")[0]: figure["value"] for name, figure in row["figures"].items()}
        figures = ", ".join(f"{name} {named[name]:.4g}" for name in FIGURES if name in named)
        return f"{figures}: {row['images']} images, {row['reference']}"
    return ""


def _print(name: str, versions: Sequence[Mapping[str, Any]], columns: Columns) -> None:
    table = Table("version", "folder", "share", *columns, title=name)
    for each in versions:
        facts = each["version"][:DIGITS], each.get("folder", ""), f"{100 * each.get('share', 0):.4g} %"
        cells = (cells.get(each["version"], "") for cells in columns.values())
        table.add_row(*(Text(printable(cell)) for cell in (*facts, *cells)))
    Console().print(table)
