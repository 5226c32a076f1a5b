"""What a sampler gives for its steps: pictures of the same seeds, as the server would make them, beside real ones.

Not part of `make bench`: it tells about a model and its samplers, not about a server. docs/benchmarks.md has them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from difuso.drawing import model_of
from difuso.sampled_images import SampledImages
from evaluation.features import EfficientNetLite0
from evaluation.figures import FIGURES, Quality, evaluate
from evaluation.image_sets import drawn, from_array
from evaluation.plots import Curve, Panel, plot_panels
from evaluation.real_images import real_images
from evaluation.reference import read_reference
from jobs.params import SamplerName, SamplingParams
from model import ModelConfig, load_checkpoint
from training.images import ImageArray
from worker.runner import Runner

from . import machine
from .report import Report, say, show

SEED = 1_000_000  # of image 0, the same for every sampler; far from those that anyone shows
BATCH = 32
REAL = 1000
FEW = (1, 2, 4, 6, 8, 10, 25)
FEWEST = 48  # images of a cell, however many steps they take


@dataclass(frozen=True)
class Line:
    """One sampler, and the numbers of steps that are tried; without a spacing it has that of the model."""

    sampler: SamplerName
    spacing: str | None = None
    steps: tuple[int, ...] = FEW
    eta: float = 0.0

    @property
    def name(self) -> str:
        words = (self.sampler, self.spacing, f"eta {self.eta:g}" if self.eta else None)
        return " ".join(word for word in words if word)

    def params(self, model: ModelConfig, steps: int) -> SamplingParams:
        """Of image 0."""
        spacing = self.spacing or model.defaults.spacing
        label = None if model.classes is None else 0
        return SamplingParams(
            n=1, steps=steps, sampler=self.sampler, spacing=spacing, eta=self.eta, seed=SEED, label=label
        )


LINES = (
    Line("ddpm", steps=(*FEW, 50, 100, 1000)),
    Line("ddim", steps=(*FEW, 50, 100, 1000)),
    Line("dpmpp", "trailing", (*FEW, 50, 100)),
    Line("dpmpp", "trailing", (6, 8, 10, 25, 50, 100), eta=2.0),
    Line("dpmpp_3m", "trailing"),
    Line("unipc", "trailing"),
    Line("unipc", "karras"),
    Line("heun", "karras", (4, 6, 8, 10, 25, 50)),
)
CONVERGED = Line("ddim"), 1000  # where the deterministic ones are going


def main(
    model: Annotated[Path, typer.Option(help="A checkpoint's folder.")] = Path("checkpoints/faces64"),
    data: Annotated[str, typer.Option(help="What it was trained on: `faces`, or a recipe.")] = "faces",
    images: Annotated[int, typer.Option(min=48, help="Of each sampler with up to 25 steps; fewer with more.")] = 500,
    out: Annotated[Path, typer.Option(help="JSON file; pictures are kept beside it, for a run that goes on.")] = Path(
        "var/bench-quality.json"
    ),
    plot: Annotated[Path, typer.Option(help="PNG file.")] = Path("var/bench-quality.png"),
) -> None:
    """Compares samplers by steps on one core; an hour and more."""
    machine.warn_if_busy()
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(model)
    config = checkpoint.config
    runner = Runner(checkpoint, device=torch.device("cpu"), slots=BATCH)
    extractor = EfficientNetLite0()
    report = Report(out, {"model": str(model), "sha256": checkpoint.sha256, "data": data, "images": images})

    real = real_images(data, REAL + images, shape=config.shape)
    reference = read_reference(from_array("real pictures", real[:REAL]), extractor)
    floor = told(evaluate(from_array("other real pictures", real[REAL:]), reference, extractor))
    report.add("floor", floor)
    folder = out.with_suffix("")

    def sampled(line: Line, steps: int) -> SampledImages:
        return SampledImages(
            model_of(runner), line.params(config, steps), folder, labels=range(len(config.classes or ()))
        )

    say("pictures drawn to convergence")
    goal = sampled(*CONVERGED)(0, FEWEST)
    found: dict[str, list[dict[str, Any]]] = {line.name: [] for line in LINES}
    runs = [(line, steps) for line in LINES for steps in line.steps]
    for line, steps in sorted(runs, key=lambda run: run[1]):  # the long ones last
        count = max(FEWEST, min(images, 25 * images // steps))
        say(f"{line.name}, {steps} steps, {count} images")
        draw = sampled(line, steps)
        made = replace(drawn(line.name, draw, count), seconds_per_image=draw.seconds_per_image)
        quality = evaluate(made, reference, extractor)
        point = {"steps": steps, **told(quality), "seconds_per_image": quality.seconds_per_image}
        plan = config.plan(checkpoint.schedule, **line.params(config, steps).choices)
        if not plan.stochastic and (line, steps) != CONVERGED:
            point["grey_levels"] = distance_from(goal, draw(0, FEWEST))
        found[line.name].append(point)
        report.add("samplers", found)
    show_figures(found, floor)
    draw_plot(found, floor, plot)
    report.close()


def told(quality: Quality) -> dict[str, float]:
    """The figures by name, and their errors."""
    values = {name: measured.value for name, measured in quality.named.items()}
    spreads = {f"{name} error": measured.spread for name, measured in quality.named.items()}
    return values | {name: spread for name, spread in spreads.items() if spread is not None}


def distance_from(goal: ImageArray, images: ImageArray) -> float:
    """Root mean square over the pixels, in grey levels, of pictures of the same seeds.

    Both have been rounded to whole grey levels, so what is below 0.4 is rounding.
    """
    return float(np.sqrt(np.square(images.astype(np.float64) - goal).mean()))


def show_figures(found: Mapping[str, Sequence[dict[str, Any]]], floor: dict[str, float]) -> None:
    """Prints all figures, a row for each sampler and number of steps."""
    keys = [*(key for key in floor if not key.startswith(("sFD", "IS"))), "grey_levels", "seconds_per_image"]
    rows = [("other real pictures", "", *_cells(floor, keys))]
    rows += [(name, point["steps"], *_cells(point, keys)) for name, points in found.items() for point in points]
    columns = ("+-" if key.endswith("error") else key.split("-")[0] for key in keys)
    show("quality; KID x 1000", ("sampler", "steps", *columns), rows)


def _cells(point: dict[str, Any], keys: Sequence[str]) -> list[object]:
    return [1000 * point[key] if key.startswith("KID") else point.get(key, "") for key in keys]


def draw_plot(found: Mapping[str, Sequence[dict[str, Any]]], floor: dict[str, float], out: Path) -> None:
    """Quality against steps and against seconds, and how far a picture is from where it is going, as a PNG."""
    kid = FIGURES["KID"].name(EfficientNetLite0.name)

    def quality(axis: str) -> dict[str, Curve]:
        return {
            name: Curve(
                [point[axis] for point in points],
                [1000 * point[kid] for point in points],
                [1000 * point[f"{kid} error"] for point in points],
            )
            for name, points in found.items()
        }

    apart = {name: [point for point in points if "grey_levels" in point] for name, points in found.items()}
    distance = {
        name: Curve([point["steps"] for point in points], [point["grey_levels"] for point in points])
        for name, points in apart.items()
        if points
    }

    real = f"Distance from real pictures (others of them: {1000 * floor[kid]:.1f})"
    panels = [
        Panel(real, "steps (network calls)", f"{kid} x 1000", quality("steps")),
        Panel(
            "The same, by time on one core",
            "seconds per picture",
            f"{kid} x 1000",
            quality("seconds_per_image"),
        ),
        Panel(
            "Distance from the same seed, converged",
            "steps (network calls)",
            "grey levels, root mean square",
            distance,
        ),
    ]
    plot_panels([panels], out)


if __name__ == "__main__":
    typer.run(main)
