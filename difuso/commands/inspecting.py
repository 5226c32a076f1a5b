"""`difuso inspect` and `difuso verify`: how a picture was made, and whether it can be made again."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import CannotVerify, UserError, machine_errors
from ..logs import log_lines
from ..options import ModelsDir, read_settings
from ..terminal import printable
from .recipes import read_recipe

SHOWN = 8  # of the values of a list; a run may have a thousand timesteps


def inspect(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="PNG that difuso wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Prints how a picture was made, from its PNG."""
    facts = read_recipe(picture)
    if as_json:
        typer.echo(json.dumps(facts, indent=2))
        return
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(Text(printable(name)), Text(printable(_text(value))))
    Console(highlight=False).print(table)


def verify(
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="PNG of a single image that difuso wrote.")],
    uploads: Annotated[
        list[Path] | None,
        typer.Option("--upload", help="Image that the picture was made from; may be repeated."),
    ] = None,
    models_dir: ModelsDir = None,
) -> None:
    """Makes a picture again and compares. The exit status is 0 if they are equal, 1 if not, 2 if it is impossible."""
    from difuso.worker.settings import WorkerSettings

    log_lines("verify", level="warning")
    try:
        with machine_errors():
            from .verifying import verify_image

            equal = verify_image(picture, uploads or (), read_settings(WorkerSettings, models_dir=models_dir))
    except UserError as error:
        raise CannotVerify(str(error)) from error
    if not equal:
        sys.exit(1)


def _text(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, int | float | str) for each in value):
        shown = [*value[: SHOWN - 1], "…", value[-1]] if len(value) > SHOWN else value
        return ", ".join(map(str, shown))
    return value if isinstance(value, str) else json.dumps(value)
