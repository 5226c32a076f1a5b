"""Sheets of small images, enlarged pixel by pixel, as PNG files that are the same in every run."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from difuso.model.images import to_uint8
from difuso.training.data.images import ImageArray

GAP, LINE, SIZE = 6, 18, 13  # pixels between images, of a line of text, and of its letters
NOT_FINITE = (255, 0, 255)  # magenta, which no image here has


@dataclass(frozen=True)
class Row:
    """Images of one size next to each other.

    Attributes:
        label: the lines of text on the left.
        images: uint8, each of shape (H, W, 3).
        captions: a line of text below each image; none by default.
    """

    label: str
    images: Sequence[ImageArray]
    captions: Sequence[str] = ()


def to_images(x: Tensor) -> list[ImageArray]:
    """Turns tensors in [-1, 1], shape (B, 3, H, W), into images; pixels with NaN or infinity become magenta."""
    images = to_uint8(x.nan_to_num(0.0)).numpy()
    images[~x.isfinite().all(dim=1).numpy()] = NOT_FINITE
    return list(images)


def tensors(images: Sequence[ImageArray]) -> Tensor:
    """Stacks uint8 images of shape (H, W, 3) into one tensor for `model.images.from_levels`."""
    return torch.from_numpy(np.stack(images))


def save_sheet(rows: Sequence[Row], out: Path, *, scale: int = 2) -> None:
    """Draws rows below each other on white.

    Args:
        scale: the pixels of the sheet that one pixel of an image takes in either direction.
    """
    # Without Raqm, which some builds of Pillow lack, the letters are in the same places everywhere.
    font = ImageFont.truetype(findfont("DejaVu Sans"), SIZE, layout_engine=ImageFont.Layout.BASIC)
    labels = [line for row in rows for line in row.label.split("\n")]
    left = round(max(font.getlength(line) for line in labels)) + 2 * GAP
    sides = [scale * len(row.images[0]) for row in rows]
    width = left + max((side + GAP) * len(row.images) for side, row in zip(sides, rows, strict=True))
    height = GAP + sum(side + GAP + LINE * bool(row.captions) for side, row in zip(sides, rows, strict=True))
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    top = GAP
    for side, row in zip(sides, rows, strict=True):
        pen.multiline_text((left - GAP, top + side // 2), row.label, "black", font, "rm", align="right")
        for place, image in enumerate(row.images):
            x = left + place * (side + GAP)
            sheet.paste(Image.fromarray(image).resize((side, side), Image.Resampling.NEAREST), (x, top))
            if row.captions:
                pen.text((x + side // 2, top + side + LINE // 2), row.captions[place], "black", font, "mm")
        top += side + GAP + LINE * bool(row.captions)
    out.parent.mkdir(parents=True, exist_ok=True)
    sheet.quantize(256).save(out, optimize=True)  # noise has all colours, and hardly shows how many there are
