"""What a run writes for people: metrics.jsonl, TensorBoard, sample sheets, the loss curve."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from model.images import to_uint8


class Journal:
    """Logs of one run, appended to by every process that resumes it.

    Args:
        folder: of the run.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lines = (folder / "metrics.jsonl").open("a", encoding="utf-8")
        self._board = SummaryWriter(str(folder / "tensorboard"))

    def write(self, step: int, metrics: dict[str, float]) -> None:
        """One line and one point per metric; what is not finite has no place in JSON and is left out."""
        metrics = {key: value for key, value in metrics.items() if math.isfinite(value)}
        self._lines.write(json.dumps({"step": step, **{key: round(value, 6) for key, value in metrics.items()}}) + "\n")
        self._lines.flush()
        for key, value in metrics.items():
            self._board.add_scalar(key, value, step)

    def sheet(self, step: int, images: Tensor) -> Path:
        """A contact sheet of images in [-1, 1], shape (N, C, H, W)."""
        path = self._folder / "sheets" / f"{step:08d}.png"
        path.parent.mkdir(exist_ok=True)
        contact_sheet(images).save(path)
        return path

    def curve(self) -> None:
        """losses.png: the run so far."""
        plot_losses(self._folder / "metrics.jsonl", self._folder / "losses.png")

    def close(self) -> None:
        self._lines.close()
        self._board.close()


def contact_sheet(images: Tensor, gap: int = 2) -> Image.Image:
    """Images side by side on white, in a grid as square as can be."""
    pixels = np.asarray(to_uint8(images.cpu()))
    count, height, width, channels = pixels.shape
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    size = (columns * (width + gap) + gap, rows * (height + gap) + gap)
    sheet = Image.new("L" if channels == 1 else "RGB", size, "white")
    for i, image in enumerate(pixels):
        row, column = divmod(i, columns)
        tile = Image.fromarray(image.squeeze(-1) if channels == 1 else image)
        sheet.paste(tile, (gap + column * (width + gap), gap + row * (height + gap)))
    return sheet


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """All lines of a metrics.jsonl; where a run was resumed from an earlier step, the later line of a step counts."""
    by_step: dict[int, dict[str, Any]] = {}
    for line in path.read_text("utf-8").splitlines():
        with suppress(json.JSONDecodeError):  # a line that a killed process left unfinished
            entry = json.loads(line)
            by_step[entry["step"]] = entry
    return [by_step[step] for step in sorted(by_step)]


def plot_losses(metrics: Path, out: Path) -> None:
    """The loss over the run, whole and by quarter of the timesteps, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    entries = read_metrics(metrics)
    steps = [entry["step"] for entry in entries]
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    labels = {"loss": "all t", "loss/t<50": "t < 50"}
    labels |= {f"loss/q{quarter}": f"quarter {quarter} of t" for quarter in range(1, 5)}
    for key, label in labels.items():
        values = np.array([entry.get(key, math.nan) for entry in entries])
        kernel = np.ones(9) / 9
        smooth = np.convolve(np.pad(values, 4, mode="edge"), kernel, mode="valid") if len(values) > 9 else values
        axes.plot(steps, smooth, label=label, linewidth=2 if key == "loss" else 1)
    axes.set(xlabel="step", ylabel="mean squared error", yscale="log")
    axes.legend(ncols=3, fontsize="small")
    axes.grid(alpha=0.3)
    figure.savefig(out, dpi=120)
    plt.close(figure)
