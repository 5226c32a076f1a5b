"""`difuso inspect`: how a picture was made, which difuso writes into its PNG."""

import io
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from PIL import Image
from PIL.PngImagePlugin import PngImageFile
from rich.console import Console
from rich.table import Table
from rich.text import Text

from difuso.model.png import PNG_KEY

from ..errors import UserError
from ..terminal import printable

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


def _text(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(each, int | float | str) for each in value):
        shown = [*value[: SHOWN - 1], "…", value[-1]] if len(value) > SHOWN else value
        return ", ".join(map(str, shown))
    return value if isinstance(value, str) else json.dumps(value)


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
    return facts if isinstance(facts, dict) else {}
