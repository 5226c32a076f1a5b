"""The sheet that shows a model's images next to the training images nearest to them."""

from collections.abc import Iterable, Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.data.images import ImageArray

from .neighbours import SHOWN, Neighbours

ROWS = 10
GAP, LINE, MIN_TILE = 4, 14, 64  # pixels


def draw_sheet(neighbours: Neighbours, images: ImageArray, training: Mapping[int, ImageArray]) -> Image.Image:
    """Draws images next to their nearest training images: left the lowest scores, right a sample of all.

    Args:
        images: the model's images, uint8, shape (N, H, W, 3).
        training: the training images that are shown, by their indices.
    """
    count = len(neighbours.order)
    rows = min(ROWS, count)
    spread = np.linspace(0, count - 1, rows).round().astype(int)
    parts: dict[str, Iterable[int]] = {"lowest scores of all": range(rows), "from lowest to highest score": spread}
    tall = max(MIN_TILE, images.shape[1])
    wide = round(tall * images.shape[2] / images.shape[1])
    width = (1 + SHOWN) * (wide + GAP) + 4 * GAP
    sheet = Image.new("RGB", (len(parts) * width + 2 * GAP, 2 * LINE + rows * (tall + LINE + GAP)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
    for part, (name, places) in enumerate(parts.items()):
        left = GAP + part * width
        pen.text((left, 0), f"images, {name}", "black", font)
        pen.text((left, LINE), "drawn, score", "black", font)
        pen.text((left + wide + 3 * GAP, LINE), "nearest training images, distance below", "black", font)
        for row, place in enumerate(places):
            top = 2 * LINE + row * (tall + LINE + GAP)
            near = zip(neighbours.indices[place, :SHOWN], neighbours.distances[place, :SHOWN], strict=True)
            tiles = [
                (images[neighbours.order[place]], f"{neighbours.scores[place]:.2f}"),
                *((training[i], f"{distance:.2f}") for i, distance in near),
            ]
            for column, (pixels, caption) in enumerate(tiles):
                x = left + column * (wide + GAP) + (2 * GAP if column else 0)
                # Small images are enlarged so that they can be seen, without interpolation.
                sheet.paste(Image.fromarray(pixels).resize((wide, tall), Image.Resampling.NEAREST), (x, top))
                pen.text((x, top + tall), caption, "black", font)
    return sheet
