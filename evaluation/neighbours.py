"""Has a model learned its training images by heart? What it draws, beside the training images that are most like it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.images import ImageArray

from .features import Extractor, FeatureArray, extract
from .image_sets import from_array
from .precision_recall import IndexArray, nearest

COLUMNS = 5
ROWS = 10
GAP, LINE, MIN_TILE = 4, 14, 64  # pixels


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Distances in features.

    Attributes:
        order: the pictures, by the distance of their nearest training image, the most suspicious first; shape (N,).
        distances, indices: of their nearest training images, nearest first, each of shape (N, COLUMNS), in that order.
        held_out: distances of the nearest training image of pictures that are real and new, shape (M,).
    """

    order: IndexArray
    distances: FeatureArray
    indices: IndexArray
    held_out: FeatureArray

    @property
    def share_below(self) -> float:
        """Of the pictures that are nearer to a training image than 95 % of the new ones; 0.05 if none is copied."""
        return float((self.distances[:, 0] < np.quantile(self.held_out, 0.05)).mean())


def find_neighbours(
    pictures: ImageArray, training: ImageArray, held_out: ImageArray, extractor: Extractor
) -> Neighbours:
    """Compares pictures with training images, and with real ones that were not trained on; all uint8 (N, H, W, 3)."""
    features, known, new = (
        extract(from_array(name, images), extractor).pooled
        for name, images in (("pictures", pictures), ("training", training), ("held out", held_out))
    )
    distances, indices = nearest(features, known, count=COLUMNS)
    order = distances[:, 0].argsort(kind="stable")
    return Neighbours(order, distances[order], indices[order], nearest(new, known, count=1)[0][:, 0])


def draw_sheet(neighbours: Neighbours, pictures: ImageArray, training: ImageArray) -> Image.Image:
    """Pictures and their nearest training images, with distances: left the most suspicious, right some of all."""
    count = len(neighbours.order)
    rows = min(ROWS, count)
    spread = np.linspace(0, count - 1, rows).round().astype(int)
    parts: dict[str, Iterable[int]] = {"nearest of all": range(rows), "from nearest to furthest": spread}
    size = max(MIN_TILE, pictures.shape[1])
    width = (1 + COLUMNS) * (size + GAP) + 4 * GAP
    sheet = Image.new("RGB", (len(parts) * width + 2 * GAP, 2 * LINE + rows * (size + LINE + GAP)), "white")
    for block, (name, chosen) in enumerate(parts.items()):
        _draw_block(sheet, GAP + block * width, name, chosen, size, neighbours, pictures, training)
    return sheet


def _draw_block(
    sheet: Image.Image,
    left: int,
    name: str,
    chosen: Iterable[int],
    size: int,
    neighbours: Neighbours,
    pictures: ImageArray,
    training: ImageArray,
) -> None:
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    first = left + size + 3 * GAP
    pen.text((left, 0), f"pictures, {name}", "black", font)
    pen.text((left, LINE), "drawn", "black", font)
    pen.text((first, LINE), "nearest training images, distance below", "black", font)
    for row, place in enumerate(chosen):
        top = 2 * LINE + row * (size + LINE + GAP)
        sheet.paste(_tile(pictures[neighbours.order[place]], size), (left, top))
        pen.text((left, top + size), f"no. {neighbours.order[place]}", "black", font)
        for column in range(COLUMNS):
            x = first + column * (size + GAP)
            sheet.paste(_tile(training[neighbours.indices[place, column]], size), (x, top))
            pen.text((x, top + size), f"{neighbours.distances[place, column]:.2f}", "black", font)


def _tile(pixels: ImageArray, size: int) -> Image.Image:
    """Small pictures are enlarged so that they can be seen, without inventing anything."""
    return Image.fromarray(pixels).resize((size, size), Image.Resampling.NEAREST)
