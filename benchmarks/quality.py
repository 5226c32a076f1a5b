"""What a sampler gives for its steps: pictures of the same seeds, as the server would make them, beside drawn ones.

Not part of `make bench`: it tells about a model and its samplers, not about a server. docs/science.md has its figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from difuso.drawing import Drawing
from jobs.contract import SamplerName, SamplingParams
from model import load_checkpoint
from training.faces import draw_faces
from training.features import EfficientNetLite0
from training.images import ImageArray
from training.pictures import drawn, from_array
from training.plots import Curve, Panel, plot_panels
from training.quality import Quality, evaluate, read_reference
from training.tables import figures
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

    def params(self, steps: int) -> SamplingParams:
        """Of image 0."""
        return SamplingParams(n=1, steps=steps, sampler=self.sampler, spacing=self.spacing, eta=0.0, seed=SEED)


LINES = (
    Line("ddim", "leading"),
    Line("ddpm", "linspace", (5, 10, 25, 50, 100, 250)),
    Line("dpmpp", "trailing"),
    Line("heun", "karras"),
    Line("euler", "karras"),
)
# Where the deterministic ones are going: Heun with 499 calls and DDIM with 1000 end within 0.4 grey levels of it.
CONVERGED = Line("dpmpp", "trailing", (500,))


def main(
    model: Annotated[Path, typer.Option(help="A checkpoint's folder; it must draw faces.")] = Path(
        "checkpoints/faces64"
    ),
    images: Annotated[int, typer.Option(min=24, help="Of each sampler and number of steps.")] = 128,
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
    extractor = EfficientNetLite0()
    report = Report(out, {"model": str(model), "sha256": checkpoint.sha256, "images": images, "converged": converged})

    say("test faces")
    faces = np.stack(list(draw_faces("test", TEST_FACES + images, checkpoint.config.image_size, workers=1)))
    reference = read_reference(from_array("drawn faces", faces[:TEST_FACES]), extractor)
    floor = told(evaluate(from_array("other drawn faces", faces[TEST_FACES:]), reference, extractor))
    report.add("floor", floor)
    folder = out.with_suffix("")
    say("pictures drawn to convergence")
    goal = Drawing(runner, CONVERGED.params(CONVERGED.steps[0]), folder)(0, converged)
    found: dict[str, list[dict[str, Any]]] = {line.name: [] for line in LINES}
    runs = [(line, steps) for line in LINES for steps in line.steps]
    for line, steps in sorted(runs, key=lambda run: run[1]):  # the long ones last
        say(f"{line.name}, {steps} steps")
        drawing = Drawing(runner, line.params(steps), folder)
        quality = evaluate(
            drawn(line.name, drawing, images), reference, extractor, seconds_per_image=drawing.seconds_per_image
        )
        point: dict[str, Any] = {"steps": steps, **told(quality)}
        if line.sampler != "ddpm":
            point["grey_levels"] = distance_from(goal, drawing(0, min(images, converged)))
        point["seconds_per_image"] = quality.seconds_per_image
        found[line.name].append(point)
        report.add("samplers", found)
    show_figures(found, floor)
    draw_plot(found, floor, plot)
    report.close()


def told(quality: Quality) -> dict[str, float]:
    """The figures by name, and their errors."""
    values = {figure.name: figure.value for figure in figures(quality)}
    return values | {f"{figure.name} error": figure.spread for figure in figures(quality) if figure.spread is not None}


def distance_from(goal: ImageArray, images: ImageArray) -> float:
    """Root mean square over the pixels, in grey levels, of pictures of the same seeds.

    Both have been rounded to whole grey levels, so what is below 0.4 is rounding.
    """
    return float(np.sqrt(np.square(images.astype(np.float64) - goal[: len(images)]).mean()))


def show_figures(found: Mapping[str, Sequence[dict[str, Any]]], floor: dict[str, float]) -> None:
    """Prints all figures, a row for each sampler and number of steps."""
    keys = [*(key for key in floor if not key.startswith(("sFD", "IS"))), "grey_levels", "seconds_per_image"]
    rows = [("other drawn faces", "", *_cells(floor, keys))]
    rows += [(name, point["steps"], *_cells(point, keys)) for name, points in found.items() for point in points]
    columns = ("+-" if key.endswith("error") else key.split("-")[0] for key in keys)
    show("quality; KID x 1000", ("sampler", "steps", *columns), rows)


def _cells(point: dict[str, Any], keys: Sequence[str]) -> list[object]:
    return [1000 * point[key] if key.startswith("KID") else point.get(key, "") for key in keys]


def draw_plot(found: Mapping[str, Sequence[dict[str, Any]]], floor: dict[str, float], out: Path) -> None:
    """Quality against steps, and how far a picture is from where it is going, as a PNG."""
    kid = f"KID-{EfficientNetLite0.name}"
    quality, apart = {}, {}
    for name, points in found.items():
        steps = [point["steps"] for point in points]
        quality[name] = Curve(
            steps, [1000 * point[kid] for point in points], [1000 * point[f"{kid} error"] for point in points]
        )
        if "grey_levels" in points[0]:
            apart[name] = Curve(steps, [point["grey_levels"] for point in points])
    left = Panel(
        f"Distance from drawn faces (other drawn ones: {1000 * floor[kid]:.1f})",
        "steps (network calls)",
        f"{kid} x 1000",
        quality,
    )
    right = Panel(
        "Distance from the same seed, converged", "steps (network calls)", "grey levels, root mean square", apart
    )
    plot_panels([[left, right]], out)


if __name__ == "__main__":
    typer.run(main)
