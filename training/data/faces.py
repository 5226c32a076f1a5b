"""Drawn faces: the open-peeps style of DiceBear (CC0) on pastel backgrounds, unlimited and always the same."""

from __future__ import annotations

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

from model.shape import Shape

from ..recipe import Data
from .images import ImageArray
from .source_images import Source, SourceImage

STYLE = "open-peeps"
PASTELS = ("#b6e3f4", "#c0aede", "#d1d4f9", "#ffd5dc", "#ffdfbf", "#a3d9a5", "#f6c177", "#9bb8d3")


def open_faces(data: Data, shape: Shape) -> Source:
    """Opens the faces to train on, as many as a recipe says."""
    faces = enumerate(draw_faces("train", data.count, shape.height))
    return Source((SourceImage(f"train-{i}", face) for i, face in faces), data.count)


def draw_faces(split: str, count: int, size: int, workers: int | None = None) -> Iterator[ImageArray]:
    """Yields faces, each uint8 of shape (size, size, 3).

    Args:
        split: `train` and `test` hold different faces.
        count: number of faces; face i of a split is the same in every run.
        size: height and width in pixels.
        workers: number of processes that draw; by default one per core.
    """
    seeds = [f"{split}-{i}" for i in range(count)]
    with ProcessPoolExecutor(workers or os.cpu_count()) as pool:
        yield from pool.map(draw_face, seeds, [size] * count, chunksize=64)


def draw_face(seed: str, size: int) -> ImageArray:
    """Draws one face, uint8 of shape (size, size, 3)."""
    import resvg_py
    from dicebear import Avatar

    svg = Avatar(_style(), {"seed": seed}).to_string()
    face = Image.open(io.BytesIO(bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size)))).convert("RGBA")
    # The colour has a generator of its own, so that the drawing does not decide it.
    canvas = Image.new("RGBA", face.size, random.Random(seed).choice(PASTELS))
    canvas.alpha_composite(face)
    return np.asarray(canvas.convert("RGB"))


@cache
def _style() -> Any:
    from dicebear import Style

    content = json.loads(files("dicebear_styles").joinpath(f"{STYLE}.json").read_text("utf-8"))
    licence = content["meta"]["license"]["name"]
    if not licence.startswith("CC0"):
        raise RuntimeError(f"the style {STYLE} is under {licence}, not CC0: its images may not be trained on here")
    return Style(content)
