"""What a sampler gives for its steps: pictures of the same seeds, as the server would make them, beside drawn ones.

Not part of `make bench`: it tells about a model and its samplers, not about a server. docs/science.md has its figures.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
import typer
from PIL import Image

from jobs.contract import Job, SamplerName, SamplingParams
from model import load_checkpoint
from training.faces import draw_faces
from training.features import EfficientNetLite0, FeatureArray, frechet_distance, kernel_distance
from training.images import ImageArray
from worker.local import run_job
from worker.runner import Runner

from . import machine
from .report import Report, say, show

SEED = 1_000_000  # of image 0, the same for every sampler; far from those that anyone shows
BATCH = 8
TEST_FACES = 1000


@dataclass(frozen=True)
class Line:
    """One sampler as its publication or its users run it, and the numbers of steps that are tried."""

    sampler: SamplerName
    spacing: str
    steps: tuple[int, ...] = (5, 10, 25, 50)

    @property
    def name(self) -> str:
        return f"{self.sampler}, {self.spacing}"


LINES = (
    Line("ddim", "leading"),
    Line("ddpm", "linspace", (5, 10, 25, 50, 100, 250)),
    Line("dpmpp", "trailing"),
    Line("heun", "karras"),
    Line("euler", "karras"),
)
# Where the deterministic ones are going: Heun with 499 calls and DDIM with 1000 end within 0.4 grey levels of it.
CONVERGED = Line("dpmpp", "trailing", (500,))


class Made(NamedTuple):
    """Pictures of the seeds from `SEED` on, uint8 (N, H, W, 3), and the seconds that each took."""

    images: ImageArray
    seconds: FeatureArray


def main(
    model: Annotated[Path, typer.Option(help="A checkpoint's folder; it must draw faces.")] = Path(
        "checkpoints/faces64"
    ),
    images: Annotated[int, typer.Option(min=16, help="Of each sampler and number of steps.")] = 128,
    converged: Annotated[int, typer.Option(min=1, help="Images that are also drawn to convergence.")] = 32,
    out: Annotated[Path, typer.Option(help="JSON file; pictures are kept beside it, for a run that goes on.")] = Path(
        "var/bench-quality.json"
    ),
    plot: Annotated[Path, typer.Option(help="PNG file.")] = Path("docs/images/steps-quality.png"),
) -> None:
    """Compares samplers by steps on one core; about 40 minutes."""
    machine.warn_if_busy()
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(model)
    runner = Runner(checkpoint, device=torch.device("cpu"), slots=BATCH)
    pictures = Pictures(runner, out.with_suffix("") / checkpoint.sha256[:12])
    extract = EfficientNetLite0()
    report = Report(out, {"model": str(model), "sha256": checkpoint.sha256, "images": images, "converged": converged})

    say("test faces")
    faces = np.stack(list(draw_faces("test", TEST_FACES + images, checkpoint.config.image_size, workers=1)))
    drawn, others = extract(faces[:TEST_FACES]), extract(faces[TEST_FACES:])
    floor = distances(extract.name, others, drawn)
    report.add("floor", floor)
    goal = pictures.make(CONVERGED, CONVERGED.steps[0], converged).images
    found: dict[str, list[dict[str, Any]]] = {line.name: [] for line in LINES}
    runs = [(line, steps) for line in LINES for steps in line.steps]
    for line, steps in sorted(runs, key=lambda run: run[1]):  # the long ones last
        made = pictures.make(line, steps, images)
        figures = {"steps": steps, **distances(extract.name, extract(made.images), drawn)}
        if line.sampler != "ddpm":
            figures["grey_levels"] = distance_from(goal, made.images)
        figures["seconds_per_image"] = float(made.seconds.mean())
        found[line.name].append(figures)
        report.add("samplers", found)
    show_figures(found, floor)
    draw_plot(found, floor, plot)
    report.close()


class Pictures:
    """Pictures by sampler and steps, kept in a folder, so that a run that was stopped can go on."""

    def __init__(self, runner: Runner, folder: Path) -> None:
        self._runner = runner
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def make(self, line: Line, steps: int, count: int) -> Made:
        """The first `count` pictures of a sampler; those that are not there yet are made now."""
        path = self._folder / f"{line.sampler}-{line.spacing}-{steps}.npz"
        made = _read(path) if path.exists() else self._batch(line, steps, 0)
        while len(made.images) < count:
            images, seconds = self._batch(line, steps, len(made.images))
            made = Made(np.concatenate([made.images, images]), np.concatenate([made.seconds, seconds]))
            unfinished = path.with_suffix(".tmp.npz")
            np.savez(unfinished, **made._asdict())
            unfinished.replace(path)
        return Made(made.images[:count], made.seconds[:count])

    def _batch(self, line: Line, steps: int, first: int) -> Made:
        say(f"{line.name}, {steps} steps: images {first} to {first + BATCH - 1}")
        params = SamplingParams(
            n=BATCH, steps=steps, sampler=line.sampler, spacing=line.spacing, eta=0.0, seed=SEED + first
        )
        job = Job(id=str(uuid.uuid4()), model=self._runner.checkpoint.name, params=params, accepted_at=0, timeout=2**31)
        begin = time.perf_counter()
        *_, pngs = run_job(self._runner, job)
        seconds = (time.perf_counter() - begin) / BATCH
        assert isinstance(pngs, list)
        return Made(np.stack([np.asarray(Image.open(BytesIO(png))) for png in pngs]), np.full(BATCH, seconds))


def _read(path: Path) -> Made:
    with np.load(path) as kept:
        return Made(kept["images"], kept["seconds"])


def distances(name: str, features: FeatureArray, drawn: FeatureArray) -> dict[str, float]:
    """How far pictures are from drawn ones, in features."""
    kernel = kernel_distance(features, drawn)
    return {
        f"KID-{name}": kernel.value,
        f"KID-{name} standard error": kernel.standard_error,
        f"FD-{name}": frechet_distance(features, drawn),
    }


def distance_from(goal: ImageArray, images: ImageArray) -> float:
    """Root mean square over the pixels, in grey levels, of pictures of the same seeds.

    Both have been rounded to whole grey levels, so what is below 0.4 is rounding.
    """
    return float(np.sqrt(np.square(images[: len(goal)].astype(np.float64) - goal).mean()))


def show_figures(found: dict[str, list[dict[str, Any]]], floor: dict[str, float]) -> None:
    """Prints all figures, a row for each sampler and number of steps; distances in the order of `distances`."""
    headings = ("sampler", "steps", "KID x 1000", "+-", "FD", "grey levels", "s/image")
    keys = [*floor, "grey_levels", "seconds_per_image"]
    rows = [("drawn faces", "", *_cells(floor, keys))]
    rows += [(name, point["steps"], *_cells(point, keys)) for name, points in found.items() for point in points]
    show("quality", headings, rows)


def _cells(point: dict[str, Any], keys: Sequence[str]) -> list[object]:
    cells = [1000 * point[key] if key.startswith("KID") else point.get(key, "") for key in keys]
    return [round(cell, 2) if isinstance(cell, float) else cell for cell in cells]


def draw_plot(found: dict[str, list[dict[str, Any]]], floor: dict[str, float], out: Path) -> None:
    """Quality against steps, one line for each sampler, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    kernel, error, _ = floor
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.5), layout="constrained")
    for (name, points), marker in zip(found.items(), "osD^v", strict=True):
        steps = [point["steps"] for point in points]
        values, errors = ([1000 * point[key] for point in points] for key in (kernel, error))
        line = left.errorbar(steps, values, errors, marker=marker, markersize=5, capsize=2, label=name)[0]
        if "grey_levels" in points[0]:
            apart = [point["grey_levels"] for point in points]
            right.plot(steps, apart, marker=marker, markersize=5, color=line.get_color(), label=name)
    left.set(title=f"Distance from drawn faces (other drawn ones: {1000 * floor[kernel]:.1f})")
    right.set(title="Distance from the same seed, converged")
    left.set(ylabel=f"{kernel} x 1000")
    right.set(ylabel="grey levels, root mean square")
    ticks = sorted({point["steps"] for points in found.values() for point in points})
    for axes in (left, right):
        axes.set(xlabel="steps (network calls)", xscale="log", yscale="log")
        for axis, at in ((axes.xaxis, ticks), (axes.yaxis, [1, 2, 3, 5, 10, 20, 30, 50, 100, 150, 200, 300, 500, 700])):
            axis.set_major_locator(FixedLocator(at))
            axis.set_minor_locator(NullLocator())
            axis.set_major_formatter(ScalarFormatter())
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    picture = BytesIO()
    figure.savefig(picture, dpi=100)
    plt.close(figure)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.open(picture).convert("RGB").quantize(64).save(out, optimize=True)  # a third of the bytes


if __name__ == "__main__":
    typer.run(main)
