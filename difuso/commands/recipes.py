"""Reading the recipe of a picture, which difuso writes into its PNG."""

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from difuso.model.png import PNG_KEY

from ..errors import UserError

MAX_DEPTH = 20  # of lists and objects in one another; difuso writes five, and what is deeper cannot always be printed


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
