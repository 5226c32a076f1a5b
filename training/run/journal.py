"""The journal of a run, for people: metrics.jsonl, TensorBoard, sample sheets and the loss curve."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from difuso.model.folders.files import LOSSES, SHEET
from difuso.model.images import to_uint8
from difuso.model.png import PNG_KEY
from difuso.model.shape import Shape

from .loss_curves import METRICS, MOMENTS, plot_run

FIRST = 4  # samples that stand below the curve of losses
GAP, LINE = 2, 12  # pixels between the images of a sheet, and for a line of text
Captions = Sequence[Sequence[str]]  # lines of text for each image
Samples = Sequence[Mapping[str, Any]]  # the seed, class and conditions of each image


class Journal:
    """The journal of one run, in its folder; every process that resumes the run appends to it."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lines = (folder / METRICS).open("a", encoding="utf-8")
        if (folder / METRICS).read_bytes()[-1:] not in (b"", b"\n"):  # cut off by a kill, it would spoil the next line
            self._lines.write("\n")
        self._board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Writes one line, and one point per metric; NaN and infinity, which JSON cannot hold, are left out."""
        metrics = {key: value for key, value in metrics.items() if math.isfinite(value)}
        rounded = {key: float(f"{value:.6g}") for key, value in metrics.items()}
        self._lines.write(json.dumps({"step": step, **rounded}) + "\n")
        self._lines.flush()
        for key, value in metrics.items():
            self._board.add_scalar(key, value, step)

    def sheet(self, step: int, images: Tensor, captions: Captions = (), samples: Samples = ()) -> None:
        """Writes a sheet of images in [-1, 1], shape (N, C, H, W), with lines of text below each.

        The same without text is sheet.png, which holds how its samples were drawn, for programs, if that is known.
        """
        for folder, shown in (("sheets", tile_images(images, captions)), (MOMENTS, tile_images(images[:FIRST]))):
            (self._folder / folder).mkdir(exist_ok=True)
            shown.save(self._folder / folder / f"{step:08d}.png")
        text = PngInfo()
        if samples:
            text.add_itxt(PNG_KEY, json.dumps({"samples": samples}))
        tile_images(images).save(self._folder / SHEET, pnginfo=text)

    def curve(self) -> None:
        """Plots the losses of the run so far as losses.png."""
        plot_run(self._folder, self._folder / LOSSES)

    def documents(self) -> dict[str, Path]:
        """Returns what the run has to say about its model so far: the log, the curve and the last sheet."""
        paths = {name: self._folder / name for name in (METRICS, LOSSES, SHEET)}
        return {name: path for name, path in paths.items() if path.is_file()}

    def close(self) -> None:
        self._lines.close()
        self._board.close()


def tile_images(images: Tensor, captions: Captions = (), *, columns: int | None = None) -> Image.Image:
    """Puts images of shape (N, C, H, W) side by side on white, in a grid of columns, or one that is nearly square.

    Channels that are neither grey nor RGB are placed one below the other, and below each image the lines of its
    caption, if there are captions.
    """
    height = Shape(*images.shape[1:]).planes * images.shape[2]
    pixels = np.asarray(to_uint8(images.cpu().reshape(len(images), -1, height, images.shape[3])))
    if any(captions):
        pixels = _captioned(pixels, captions)
    columns = columns or math.ceil(math.sqrt(len(pixels)))
    rows = math.ceil(len(pixels) / columns)
    missing = rows * columns - len(pixels)
    tiles = np.pad(pixels, ((0, missing), (GAP, 0), (GAP, 0), (0, 0)), constant_values=255)
    sheet = np.vstack([np.hstack(row) for row in tiles.reshape(rows, columns, *tiles.shape[1:])])
    sheet = np.pad(sheet, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)
    return Image.fromarray(sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet)


def _captioned(pixels: NDArray[Any], captions: Captions) -> NDArray[Any]:
    """Puts the lines of its caption below each image, shape (N, H, W, C), in tiles as wide as the longest line."""
    font = ImageFont.load_default(LINE - 2)
    width = max(pixels.shape[2], *(math.ceil(font.getlength(line)) for lines in captions for line in lines))
    height = pixels.shape[1]
    more = ((0, 0), (0, LINE * max(map(len, captions))), (0, width - pixels.shape[2]), (0, 0))
    tiles = np.pad(pixels, more, constant_values=255)
    for tile, lines in zip(tiles, captions, strict=True):
        text = Image.new("L", (width, len(tile) - height), 255)
        for number, line in enumerate(lines):
            ImageDraw.Draw(text).text((0, LINE * number), line, 0, font)
        tile[height:] = np.asarray(text)[:, :, None]
    return tiles
