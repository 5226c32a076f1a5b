"""Drawn faces: the open-peeps style of DiceBear (CC0) on pastel backgrounds, unlimited and always the same."""

import io
import json
import os
import random
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
from PIL import Image

from difuso.model.shape import Shape

from ..recipe import Data
from .face_attributes import ATTRIBUTES, CHOICES, attributes_of
from .images import ImageArray
from .source_images import Source, SourceImage

STYLE = "open-peeps"
PASTELS = tuple(CHOICES["background"].values())


def open_faces(data: Data, shape: Shape) -> Source:
    """Opens the faces of a split, as many as a recipe says, with the attributes that they are drawn by."""
    return Source(_drawn(data.split, data.count, shape.height), data.count, columns=tuple(ATTRIBUTES))


def draw_faces(split: str, count: int, size: int) -> Iterator[ImageArray]:
    """Yields the first faces of `train` or `test`, each uint8 of shape (size, size, 3), the same in every run."""
    for item in _drawn(split, count, size):
        assert item.image is not None
        yield item.image


def draw_face(seed: str, size: int) -> ImageArray:
    """Draws one face, uint8 of shape (size, size, 3)."""
    image = _draw(seed, size).image
    assert image is not None
    return image


def _drawn(split: str, count: int, size: int) -> Iterator[SourceImage]:
    seeds = [f"{split}-{i}" for i in range(count)]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(_draw, seeds, [size] * count, chunksize=64)


def _draw(seed: str, size: int) -> SourceImage:
    import resvg_py
    from dicebear import Avatar

    drawing = Avatar(_style(), {"seed": seed}).to_json()
    png = bytes(resvg_py.svg_to_bytes(svg_string=drawing["svg"], width=size, height=size))
    face = Image.open(io.BytesIO(png)).convert("RGBA")
    # The colour has a generator of its own, so that the drawing does not decide it.
    background = random.Random(seed).choice(PASTELS)
    canvas = Image.new("RGBA", face.size, background)
    canvas.alpha_composite(face)
    return SourceImage(seed, np.asarray(canvas.convert("RGB")), values=attributes_of(drawing["options"], background))


@cache
def _style() -> Any:
    from dicebear import Style

    content = json.loads(files("dicebear_styles").joinpath(f"{STYLE}.json").read_text("utf-8"))
    licence = content["meta"]["license"]["name"]
    if not licence.startswith("CC0"):
        raise RuntimeError(f"the style {STYLE} is under {licence}, not CC0: its images may not be trained on here")
    return Style(content)
