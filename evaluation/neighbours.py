"""A model's images beside the training images nearest to them, to find out whether it has memorised any."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.images import ImageArray

from .errors import EvaluationError
from .features import Extractor, FeatureArray, extract
from .image_sets import from_array
from .precision_recall import IndexArray, nearest

COLUMNS = 5
ROWS = 10
GAP, LINE, MIN_TILE = 4, 14, 64  # pixels


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Distances between the features of a model's images and those of its training images.

    Attributes:
        order: indices of the model's images by the distance to their nearest training image, nearest first, shape (N,).
        distances, indices: distances and indices of the training images nearest to each image of `order`, nearest
            first, each of shape (N, COLUMNS).
        held_out: distance from each held-out image to its nearest training image, shape (M,).
    """

    order: IndexArray
    distances: FeatureArray
    indices: IndexArray
    held_out: FeatureArray

    @property
    def share_below(self) -> float:
        """Share of the images nearer to a training image than 95 % of the held-out ones; 0.05 if none is a copy."""
        return float((self.distances[:, 0] < np.quantile(self.held_out, 0.05)).mean())


def find_neighbours(images: ImageArray, training: ImageArray, held_out: ImageArray, extractor: Extractor) -> Neighbours:
    """Compares a model's images, and real images that were not trained on, with the training images.

    Args:
        images, training, held_out: uint8, each of shape (its own N, H, W, 3).

    Raises:
        EvaluationError: if there are fewer training images than a row of the sheet shows.
    """
    if len(training) < COLUMNS:
        raise EvaluationError(f"there are {len(training)} training images, and {COLUMNS} at least are compared")
    made, known, new = (extract(from_array("", each), extractor).pooled for each in (images, training, held_out))
    distances, indices = nearest(made, known, count=COLUMNS)
    order = distances[:, 0].argsort(kind="stable")
    return Neighbours(order, distances[order], indices[order], nearest(new, known, count=1)[0][:, 0])


def draw_sheet(neighbours: Neighbours, images: ImageArray, training: ImageArray) -> Image.Image:
    """Draws images beside their nearest training images, with distances: left the nearest, right a sample of all."""
    count = len(neighbours.order)
    rows = min(ROWS, count)
    spread = np.linspace(0, count - 1, rows).round().astype(int)
    parts: dict[str, Iterable[int]] = {"nearest of all": range(rows), "from nearest to furthest": spread}
    tall = max(MIN_TILE, images.shape[1])
    wide = round(tall * images.shape[2] / images.shape[1])
    width = (1 + COLUMNS) * (wide + GAP) + 4 * GAP
    sheet = Image.new("RGB", (len(parts) * width + 2 * GAP, 2 * LINE + rows * (tall + LINE + GAP)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for part, (name, places) in enumerate(parts.items()):
        left = GAP + part * width
        pen.text((left, 0), f"images, {name}", "black", font)
        pen.text((left, LINE), "drawn", "black", font)
        pen.text((left + wide + 3 * GAP, LINE), "nearest training images, distance below", "black", font)
        for row, place in enumerate(places):
            top = 2 * LINE + row * (tall + LINE + GAP)
            number = neighbours.order[place]
            near = zip(neighbours.indices[place], neighbours.distances[place], strict=True)
            tiles = [(images[number], f"no. {number}"), *((training[i], f"{distance:.2f}") for i, distance in near)]
            for column, (pixels, caption) in enumerate(tiles):
                x = left + column * (wide + GAP) + (2 * GAP if column else 0)
                # Small images are enlarged so that they can be seen, without interpolation.
                sheet.paste(Image.fromarray(pixels).resize((wide, tall), Image.Resampling.NEAREST), (x, top))
                pen.text((x, top + tall), caption, "black", font)
    return sheet
