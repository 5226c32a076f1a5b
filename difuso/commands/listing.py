"""`difuso models`: the models of a folder, and what is wrong with them."""

import sys
from collections.abc import Mapping
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from difuso.jobs.catalog import Catalog, read_catalog
from difuso.jobs.settings import CHECKPOINTS, SHIPPED
from difuso.model.errors import reason_of
from difuso.worker.settings import WorkerSettings

from ..models_folder import models_folder, no_model
from ..options import ModelsDir, read_settings
from ..terminal import printable


def models(
    models_dir: ModelsDir = None,
    verify: Annotated[bool, typer.Option("--verify", help="Load and check the weights too.")] = False,
    check: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Call the network of one model in every way that is needed.")
    ] = None,
) -> None:
    """Lists the checkpoints, and says why any of them cannot be served."""
    settings = read_settings(WorkerSettings, models_dir=models_dir)
    if check is not None:
        from .checking import check_model

        fine = check_model(check, settings)
    else:
        folder = models_folder(settings)
        catalog = read_catalog(folder)
        refused = {**catalog.refused, **(_damaged(settings, catalog) if verify else {})}
        if not catalog.models and not refused:
            raise no_model(folder, refused)
        _print_table(settings.models_place, catalog, refused)
        fine = not refused
    if not fine:
        sys.exit(1)


def _damaged(settings: WorkerSettings, catalog: Catalog) -> dict[str, str]:
    """Loads the models of a folder, which takes long; returns the name and reason of each that cannot be served."""
    from difuso.model import load_checkpoint

    reasons: dict[str, str] = {}
    for model in (each for versions in catalog.versions.values() for each in versions):
        try:
            load_checkpoint(model.path, networks=settings.networks)
        except Exception as error:  # one bad folder must not hide the others
            reasons[model.folder] = reason_of(error)
    return reasons


def _print_table(place: str, catalog: Catalog, refused: Mapping[str, str]) -> None:
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "size", "T", "parameters", "version", "state"):
        table.add_column(heading, justify="right" if heading == "parameters" else "left", overflow="fold")
    models = {each.folder: each for versions in catalog.versions.values() for each in versions}
    for name in sorted({*models, *refused}):
        facts = [""] * 4
        if (info := models.get(name)) is not None:
            config = info.config
            size = f"{config.shape.in_pixels}x{config.channels}"
            facts = [size, str(config.schedule.num_train_timesteps), f"{info.parameters:,}", info.version[:12]]
        state = f"refused: {refused[name]}" if name in refused else "ok"
        table.add_row(*(Text(printable(cell)) for cell in (name, *facts, state)))  # others may have named the folder
    console = Console()
    shipped = place == str(SHIPPED.absolute())
    passed = f" (and none in {CHECKPOINTS.absolute()})" if shipped and CHECKPOINTS.is_dir() else ""
    console.print(f"models in {place}{passed}", soft_wrap=True, markup=False, highlight=False)
    console.print(table)
