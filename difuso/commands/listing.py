"""`difuso models`: the models of a folder, and what is wrong with them."""

import sys
from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.catalog import read_catalog
from jobs.places import CHECKPOINTS, SHIPPED
from model.errors import reason_of

from ..models_folder import no_model
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
    from worker.settings import WorkerSettings

    settings = read_settings(WorkerSettings, models_dir=models_dir)
    if check is not None:
        from .checking import check_model

        fine = check_model(check, settings)
    else:
        fine = _print_models(settings.models_dir, verify=verify, networks=settings.networks)
    if not fine:
        sys.exit(1)


def _print_models(folder: Path, *, verify: bool, networks: Collection[str]) -> bool:
    """Prints a table of the checkpoints in a folder; returns whether all can be served.

    `verify` loads the weights too, which finds all damage and takes longer, and imports networks of other packages only
    from the modules `networks`. Raises UserError if there is no checkpoint.
    """
    catalog = read_catalog(folder)
    refused = dict(catalog.refused)
    if verify:
        refused |= _damaged(folder, list(catalog.models), networks)
    if not catalog.models and not refused:
        raise no_model(folder, refused)
    table = Table(box=None, pad_edge=False)
    for heading in ("model", "size", "T", "parameters", "sha256", "state"):
        table.add_column(heading, justify="right" if heading == "parameters" else "left", overflow="fold")
    for name in sorted({*catalog.models, *refused}):
        facts = [""] * 4
        if (info := catalog.models.get(name)) is not None:
            config = info.config
            size = f"{config.shape.in_pixels}x{config.channels}"
            facts = [size, str(config.schedule.num_train_timesteps), f"{info.parameters:,}", (info.sha256 or "")[:12]]
        state = f"refused: {refused[name]}" if name in refused else "ok"
        table.add_row(*(Text(printable(cell)) for cell in (name, *facts, state)))  # others may have named the folder
    console = Console()
    passed = f" (and none in {CHECKPOINTS.absolute()})" if folder == SHIPPED and CHECKPOINTS.is_dir() else ""
    console.print(f"models in {folder.absolute()}{passed}", soft_wrap=True, markup=False, highlight=False)
    console.print(table)
    return not refused


def _damaged(folder: Path, names: list[str], networks: Collection[str]) -> dict[str, str]:
    """Loads the checkpoints of these names; returns the name and reason of each that cannot be served."""
    from model import load_checkpoint

    reasons: dict[str, str] = {}
    for name in names:
        try:
            load_checkpoint(folder / name, networks=networks)
        except Exception as error:  # one bad folder must not hide the others
            reasons[name] = reason_of(error)
    return reasons
