"""The quality of samplers by steps: images of the same seeds, as the server makes them, compared with real images.

All samplers are tried with one range of seeds against one half of the real images. The best for each number of steps
and the model's own settings are then drawn with other seeds and compared with the other half: those figures may be
reported. This is not part of `make bench`, because it measures a model and its samplers and not a server.
docs/benchmarks.md has the figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from difuso.drawing.drawing import model_of
from difuso.drawing.sampled_images import SampledImages
from evaluation.features import EfficientNetLite0, Extractor
from evaluation.figures import Quality, evaluate
from evaluation.image_sets import Half, ImageSet, from_array
from evaluation.real_images import real_images
from evaluation.reference import read_reference
from jobs.params import SamplingParams
from model import Checkpoint, load_checkpoint
from model.folders.config import ModelConfig, SamplerDefaults
from model.guidance import UNGUIDED, Guidance
from model.plans.settings import SamplerName
from training.data.images import ImageArray
from worker.stepping.runner import Runner

from . import machine
from .quality_shown import KID, Point, draw_plot, show_reported, show_tried
from .report import Report, say

BATCH = 32
REAL = 1000  # images of each half, at most
FEW = (2, 4, 6, 8, 10, 25)
NOISY = (6, 8, 10, 16, 25)
LONG = 50  # steps, above which a cell has fewer images
FEWEST = 48  # images of a cell, however many steps they take

OTHERS = "other real pictures"


@dataclass(frozen=True)
class Line:
    """One sampler with the numbers of steps that are tried; without a spacing it has the model's."""

    sampler: SamplerName
    spacing: str | None = None
    steps: tuple[int, ...] = FEW
    eta: float = 0.0
    guidance: Guidance = UNGUIDED

    @classmethod
    def of(cls, own: SamplerDefaults) -> Line:
        """Returns the line of a model's own settings."""
        return cls(own.sampler, own.spacing, (), own.eta, own.guidance if own.guidance_scale != 1 else UNGUIDED)

    def settled(self, model: ModelConfig) -> Line:
        """Returns the line with its spacing and without its steps; lines that are equal then draw equal images."""
        return replace(self, spacing=self.spacing or model.defaults.spacing, steps=())

    @property
    def name(self) -> str:
        noise = f"eta {self.eta:g}" if self.eta else None
        guidance = f"guidance {self.guidance}" if self.guidance.scale != 1 else None
        return " ".join(word for word in (self.sampler, self.spacing, noise, guidance) if word)

    def params(self, model: ModelConfig, steps: int, seed: int) -> SamplingParams:
        """Returns the parameters of image 0, which has this seed."""
        own = self.settled(model)
        label = None if model.classes is None else 0
        return SamplingParams(
            n=1, steps=steps, sampler=own.sampler, spacing=own.spacing or "", eta=own.eta, seed=seed, label=label,
            **own.guidance.settings,
        )  # fmt: skip


LINES = (
    Line("ddpm", "trailing", (10, 25, 50)),
    Line("ddim", "trailing", (*FEW, 50)),
    Line("unipc", "trailing", FEW),
    Line("unipc", "exponential", FEW),
    Line("dpmpp", "exponential", FEW),
    Line("dpmpp", "exponential", NOISY, eta=1.0),
    Line("dpmpp", "exponential", NOISY, eta=1.5),
    Line("dpmpp", "exponential", NOISY, eta=3.0),
    Line("dpmpp", "trailing", (10, 25, 50), eta=3.0),
    Line("heun", "karras", (10, 25)),
)
CONVERGED = Line("dpmpp", "exponential"), 250  # the limit of the deterministic samplers


class Bench:
    """Draws cells and measures them against either half of the real images.

    Args:
        real: real images that the model has not seen, in random order.
        folder: the folder that keeps the drawn images.
        images: the number of images of a cell with up to 50 steps.
    """

    def __init__(
        self, checkpoint: Checkpoint, extractor: Extractor, real: ImageSet, *, folder: Path, images: int
    ) -> None:
        self.checkpoint = checkpoint
        self._runner = Runner(checkpoint, device=torch.device("cpu"), slots=BATCH)
        self._extractor, self._folder, self._images = extractor, folder, images
        self._real = {half: half.of(real) for half in Half}
        self._references = {half: read_reference(self._real[half], extractor) for half in Half}

    def count(self, steps: int) -> int:
        """Returns the number of images of a cell."""
        return max(FEWEST, min(self._images, LONG * self._images // steps))

    def facts(self, half: Half) -> dict[str, Any]:
        """Returns what the figures of a half depend on."""
        pictures = self._real[half]
        return {"seeds": [half.seed, half.seed + self._images - 1], "references": pictures.count, "of": pictures.name}

    def cell(self, line: Line, steps: int, half: Half) -> Point:
        """Returns the figures of one sampler with one number of steps."""
        count, draw = self.count(steps), self._sampled(line, steps, half)
        say(f"{half}: {line.name}, {steps} steps, {count} images")
        made = ImageSet(line.name, count, draw, seconds_per_image=draw.seconds_per_image)
        quality = evaluate(made, self._references[half], self._extractor)
        point = {"steps": steps, "images": count, **told(quality), "seconds_per_image": quality.seconds_per_image}
        config = self.checkpoint.config
        plan = config.plan_of(self.checkpoint.schedule, line.params(config, steps, half.seed))
        if half is Half.CHOOSING and not plan.stochastic and (line, steps) != CONVERGED:
            point["grey_levels"] = distance_from(self._goal, draw(0, FEWEST))
        return point

    @cached_property
    def _goal(self) -> ImageArray:
        say("images drawn to convergence")
        return self._sampled(*CONVERGED, Half.CHOOSING)(0, FEWEST)

    def reals(self, half: Half) -> list[Point]:
        """Returns the figures of as many real images of the other half: the best that a cell can have."""
        others = self._real[half.other]
        counts = sorted({min(self.count(steps), others.count) for line in LINES for steps in line.steps})
        sets = [replace(others, name=OTHERS, count=count) for count in counts]
        return [
            {"name": OTHERS, "images": each.count, **told(evaluate(each, self._references[half], self._extractor))}
            for each in sets
        ]

    def _sampled(self, line: Line, steps: int, half: Half) -> SampledImages:
        config = self.checkpoint.config
        params, classes = line.params(config, steps, half.seed), range(len(config.classes or ()))
        return SampledImages(model_of(self._runner), params, self._folder, labels=classes)


def main(
    model: Annotated[Path, typer.Option(help="A checkpoint's folder.")] = Path("checkpoints/faces64"),
    data: Annotated[str, typer.Option(help="The images that it was trained on: `faces`, or a recipe.")] = "faces",
    images: Annotated[int, typer.Option(min=48, help="Images by up to 50 steps; fewer by more.")] = 250,
    out: Annotated[Path, typer.Option(help="JSON file; images are kept next to it, for the next run.")] = Path(
        "var/bench-quality.json"
    ),
    plot: Annotated[Path, typer.Option(help="PNG file.")] = Path("var/bench-quality.png"),
) -> None:
    """Compares samplers by steps on one core, and reports the best on other seeds and references; half an hour."""
    machine.warn_if_busy()
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(model)
    real = from_array("real pictures", real_images(data, 2 * REAL, shape=checkpoint.config.shape))
    bench = Bench(checkpoint, EfficientNetLite0(), real, folder=out.with_suffix(""), images=images)
    settings = {"model": str(model), "sha256": checkpoint.sha256, "data": data, "images": images}
    report = Report(out, settings | {str(half): bench.facts(half) for half in Half})
    tried = try_all(bench, report)
    reported = report_chosen(bench, tried, report)
    rows = {half: bench.reals(half) for half in Half}
    report.add("real", rows)
    show_tried(tried, rows[Half.CHOOSING], bench.facts(Half.CHOOSING))
    show_reported(reported, rows[Half.REPORTING], bench.facts(Half.REPORTING))
    draw_plot(tried, rows[Half.CHOOSING], plot)
    report.close()


def try_all(bench: Bench, report: Report) -> dict[str, list[Point]]:
    """Measures all lines on the half for choosing."""
    found: dict[str, list[Point]] = {line.name: [] for line in LINES}
    runs = [(line, steps) for line in LINES for steps in line.steps]
    for line, steps in sorted(runs, key=lambda run: run[1]):  # the long ones last
        found[line.name].append(bench.cell(line, steps, Half.CHOOSING))
        report.add("tried", found)
    return found


def chosen(tried: Mapping[str, Sequence[Point]], config: ModelConfig) -> dict[tuple[Line, int], str]:
    """Returns the cells to report, and why: the best line for each number of steps, the default and the plans."""
    why: dict[tuple[Line, int], list[str]] = {}
    for steps in sorted({steps for line in LINES for steps in line.steps}):
        found = {line: kid(tried, line, steps) for line in LINES if steps in line.steps}
        best = min(found, key=lambda line: found[line])
        why.setdefault((best.settled(config), steps), []).append("best tried")
    for name, own in {
        "default": config.defaults,
        **{f"plan {name}": plan for name, plan in config.plans.items()},
    }.items():
        why.setdefault((Line.of(own), own.steps), []).append(name)
    return {run: ", ".join(reasons) for run, reasons in why.items()}


def kid(tried: Mapping[str, Sequence[Point]], line: Line, steps: int) -> float:
    """Returns the kernel distance of a cell that was tried."""
    value: float = next(point[KID] for point in tried[line.name] if point["steps"] == steps)
    return value


def report_chosen(bench: Bench, tried: Mapping[str, Sequence[Point]], report: Report) -> list[Point]:
    """Measures the chosen cells on the half for reporting, with as many real images for comparison."""
    found: list[Point] = []
    for (line, steps), why in chosen(tried, bench.checkpoint.config).items():
        found.append({"name": line.name, "why": why, **bench.cell(line, steps, Half.REPORTING)})
        report.add("reported", found)
    return found


def told(quality: Quality) -> dict[str, float]:
    """Returns the figures by name, and their errors."""
    values = {name: measured.value for name, measured in quality.named.items()}
    spreads = {f"{name} error": measured.spread for name, measured in quality.named.items()}
    return values | {name: spread for name, spread in spreads.items() if spread is not None}


def distance_from(goal: ImageArray, images: ImageArray) -> float:
    """Returns the root mean square difference over the pixels, in grey levels, of images of the same seeds.

    Both have been rounded to whole grey levels, so a difference below 0.4 is rounding.
    """
    return float(np.sqrt(np.square(images.astype(np.float64) - goal).mean()))


if __name__ == "__main__":
    typer.run(main)
