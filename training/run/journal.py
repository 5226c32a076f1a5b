"""The journal of a run, for people: metrics.jsonl, TensorBoard, sample sheets and the loss curve."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from PIL.PngImagePlugin import PngInfo
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from difuso.model.folders.files import LOSSES, METRICS, SHEET
from difuso.model.images import to_uint8
from difuso.model.pictures import as_pictures
from difuso.model.png import PNG_KEY
from difuso.model.shape import Shown

from ..replacing import replace_text

COPIES = "copies"  # a metric, see `copies.Found`
WINDOW = 9  # lines of the log over which a smoothed loss is the mean
GAP, LINE = 2, 12  # pixels between the images of a sheet, and for a line of text
Captions = Sequence[Sequence[str]]  # lines of text for each image
Entries = list[dict[str, Any]]  # lines of the log
Samples = Sequence[Mapping[str, Any]]  # the seed, class and conditions of each image


class Journal:
    """The journal of one run, in its folder; a process that resumes the run at a `step` appends to it.

    What a killed process wrote after that step, which is made again, is dropped.
    """

    def __init__(self, folder: Path, step: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        lines = folder / METRICS
        earlier = [entry for entry in _entries(lines) if entry["step"] <= step] if lines.exists() else []
        replace_text(lines, "".join(map(_line, earlier)))
        self._lines = lines.open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """Writes one line, and one point per metric; NaN and infinity, which JSON cannot hold, are left out."""
        metrics = {key: value for key, value in metrics.items() if math.isfinite(value)}
        rounded = {key: float(f"{value:.6g}") for key, value in metrics.items()}
        self._lines.write(_line({"step": step, **rounded}))
        self._lines.flush()
        for key, value in metrics.items():
            self._board.add_scalar(key, value, step)

    def sheet(
        self,
        step: int,
        images: Tensor,
        captions: Captions = (),
        samples: Samples = (),
        *,
        shown: Shown | None = None,
    ) -> None:
        """Writes a sheet of images in [-1, 1], shape (N, C, H, W), with lines of text below each.

        The same without text is sheet.png, which holds how its samples were drawn, for programs, if that is known.
        """
        (self._folder / "sheets").mkdir(exist_ok=True)
        tile_images(images, captions, shown=shown).save(self._folder / "sheets" / f"{step:08d}.png")
        text = PngInfo()
        if samples:
            text.add_itxt(PNG_KEY, json.dumps({"samples": samples}))
        tile_images(images, shown=shown).save(self._folder / SHEET, pnginfo=text)

    def nearest(self, step: int, samples: Tensor, others: Tensor, *, shown: Shown | None = None) -> None:
        """Writes samples and below each row the training images nearest to them; both of shape (N, C, H, W)."""
        (self._folder / "nearest").mkdir(exist_ok=True)
        columns = math.ceil(math.sqrt(len(samples)))
        parts = [slice(first, first + columns) for first in range(0, len(samples), columns)]
        rows = torch.cat([images[part] for part in parts for images in (samples, others)])
        tile_images(rows, columns=columns, shown=shown).save(self._folder / "nearest" / f"{step:08d}.png")

    def last(self, key: str) -> float | None:
        """Returns the last value of a metric; None without any."""
        values = [entry[key] for entry in _entries(self._folder / METRICS) if key in entry]
        return values[-1] if values else None

    def documents(self) -> dict[str, Path]:
        """Returns what the run has to say about its model so far: the log, the curve and the last sheet."""
        paths = {name: self._folder / name for name in (METRICS, LOSSES, SHEET)}
        return {name: path for name, path in paths.items() if path.is_file()}

    def close(self) -> None:
        self._lines.close()
        self._board.close()


def read_metrics(path: Path) -> Entries:
    """Reads one entry for each step of a metrics.jsonl, whose figures may be in several lines."""
    by_step: dict[int, dict[str, Any]] = {}
    for entry in _entries(path):
        by_step.setdefault(entry["step"], {}).update(entry)
    return [by_step[step] for step in sorted(by_step)]


def _line(entry: Mapping[str, Any]) -> str:
    return json.dumps(entry) + "\n"


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    """Yields the lines of a metrics.jsonl."""
    for line in path.read_text("utf-8").splitlines():
        with suppress(json.JSONDecodeError):  # a line that a killed process left unfinished
            yield json.loads(line)


def plot_run(folder: Path, out: Path) -> None:
    """Plots the losses in a folder's metrics.jsonl over the steps: of all timesteps, and of parts of them.

    Each is smoothed, over a pale line of the logged values; the loss on held-out images is not. On an axis of its own
    stands the KID, or the accuracy of a classifier on held-out images.
    """
    entries = read_metrics(folder / METRICS)
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    labels = {"loss": "all t", "loss/t<50": "t < 50"}
    labels |= {f"loss/q{quarter}": f"quarter {quarter} of t" for quarter in range(1, 5)}
    for place, (key, label) in enumerate(labels.items()):
        steps, values = np.array(_points(entries, key), dtype=float).reshape(-1, 2).T
        axes.plot(steps, values, color=f"C{place}", alpha=0.25, linewidth=0.8)
        axes.plot(steps, smoothed(values), color=f"C{place}", label=label)
    if points := _points(entries, "held_out/loss"):
        axes.plot(*zip(*points, strict=True), "k.-", linewidth=0.8, label="held-out images")
    classifies = any("accuracy" in entry for entry in entries)
    axes.set(xlabel="step", ylabel="cross-entropy" if classifies else "mean squared error")
    if axes.dataLim.y0 > 0:  # a loss of learned weights becomes negative
        axes.set(yscale="log")
        low, high = axes.get_ylim()
        narrow = FixedLocator(MaxNLocator(5).tick_values(low, high))
        axes.yaxis.set_major_locator(narrow if high < 3 * low else LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    for key, label in (("kid", "KID x 1000"), ("held_out/accuracy", "accuracy on held-out images")):
        if points := _points(entries, key):
            right = axes.twinx()
            right.plot(*zip(*points, strict=True), "ko:", markersize=4, label=label)
            right.set(ylabel=label, ylim=(0, None))
            right.legend(fontsize="small", loc="lower right" if classifies else "upper center")
    figure.savefig(out, dpi=100)


def _points(entries: Entries, key: str) -> list[tuple[int, float]]:
    return [(entry["step"], entry[key]) for entry in entries if key in entry]


def smoothed(values: NDArray[Any]) -> NDArray[Any]:
    """Averages over a window that shrinks towards both ends, so that neither end is bent."""
    reach = [min(WINDOW // 2, i, len(values) - 1 - i) for i in range(len(values))]
    return np.array([values[i - r : i + r + 1].mean() for i, r in enumerate(reach)])


def tile_images(
    images: Tensor, captions: Captions = (), *, columns: int | None = None, shown: Shown | None = None
) -> Image.Image:
    """Puts images of shape (N, C, H, W) side by side on white, in a grid of columns, or one that is nearly square.

    Images that are neither grey nor RGB are shown as `as_pictures` does, and below each image stand the lines of its
    caption, if there are captions.
    """
    pixels = as_pictures(np.asarray(to_uint8(images.cpu())), shown)
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
