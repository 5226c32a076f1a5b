"""`difuso inspect` and `difuso verify`: how a picture was made, and whether it can be made again."""

import io
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from rich.console import Console
from rich.table import Table
from rich.text import Text

from model.png import PNG_KEY

from ..errors import CannotVerify, UserError, machine_errors
from ..logs import log_lines
from ..options import ModelsDir, read_settings
from ..terminal import printable

SHOWN = 8  # of the values of a list; a run may have a thousand timesteps
MAX_DEPTH = 20  # of lists and objects in one another; difuso writes five, and what is deeper cannot always be printed


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
        table.add_row(Text(printable(name)), Text(printable(_told(value))))
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
    from worker.settings import WorkerSettings

    log_lines("verify", level="warning")
    try:
        with machine_errors():
            from .verifying import verify_image

            equal = verify_image(picture, uploads or (), read_settings(WorkerSettings, models_dir=models_dir))
    except UserError as error:
        raise CannotVerify(str(error)) from error
    if not equal:
        sys.exit(1)


def read_recipe(file: Path) -> dict[str, Any]:
    """Returns the facts that difuso wrote into a PNG; raises UserError if it is none, or has no such facts."""
    try:
        facts = recipe_in(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file}: {error.strerror or 'not a PNG'}") from error
    except Exception as error:  # Pillow raises many kinds of exceptions
        raise UserError(f"{file}: its text cannot be read") from error
    if not facts:
        raise UserError(
            f"{file} holds no recipe: difuso did not write it, or another program has removed the text of the PNG"
        )
    return facts


def recipe_in(png: bytes) -> dict[str, Any]:
    """Returns the facts in a PNG; none if there are none. It raises what Pillow and the reader of JSON raise."""
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        assert isinstance(image, PngImageFile)
        facts = json.loads(image.text.get(PNG_KEY, "{}"))
    if _depth(facts) > MAX_DEPTH:
        raise ValueError(f"lists and objects of the recipe lie more than {MAX_DEPTH} deep in one another")
    return facts if isinstance(facts, dict) else {}


def _depth(value: Any) -> int:
    """Returns how many lists and objects lie in one another."""
    depth, level = 0, [value]
    while level := [each for each in level if isinstance(each, list | dict)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def _told(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, int | float | str) for each in value):
        shown = [*value[: SHOWN - 1], "…", value[-1]] if len(value) > SHOWN else value
        return ", ".join(map(str, shown))
    return value if isinstance(value, str) else json.dumps(value)
