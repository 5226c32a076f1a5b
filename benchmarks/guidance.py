"""What guidance trades: precision, recall and FD against the scale of a classifier and of classifier-free guidance.

This is the figure of Dhariwal & Nichol 2021 (section 4.3, figure 4) for a model of ours. It is not part of `make
bench`, because it measures a model and not a server. docs/benchmarks.md has the results.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from difuso.drawing.drawing import model_of
from difuso.drawing.sampled_images import SampledImages
from evaluation.features import EfficientNetLite0, Extractor, Features
from evaluation.figures import FIGURES, Comparison
from evaluation.image_sets import ImageSet, from_array
from evaluation.plots import save
from evaluation.real_images import real_images
from evaluation.reference import Reference, extract_of_size, read_reference
from jobs.params import SamplingParams
from model import Checkpoint, load_checkpoint
from model.checkpoint import CLASSIFIER, file_sha256
from worker.stepping.runner import Runner

from . import machine
from .report import Report, say, show

SEED = 2_000_000  # seed of image 0, the same at every point
GROUPS = 10  # groups of the jackknife
MEASURED = ("FD", "Precision", "Recall")
SCALES = {"guidance_scale": (1.0, 1.5, 2.0, 3.0, 5.0), "classifier_scale": (0.0, 1.0, 2.0, 4.0, 8.0)}
OFF = {"guidance_scale": 1.0, "classifier_scale": 0.0}
NAMES = {"guidance_scale": "classifier-free, w", "classifier_scale": "classifier, s"}

Point = dict[str, float]


@dataclass(frozen=True)
class Drawing:
    """How the images of every point are drawn.

    Attributes:
        checkpoint: the model.
        runner: the same, ready to draw.
        params: the parameters of image 0 without guidance.
        folder: the folder where images and points are kept.
    """

    checkpoint: Checkpoint
    runner: Runner
    params: SamplingParams
    folder: Path

    def images(self, way: str, scale: float) -> SampledImages:
        """Returns the images of one point; the classes take turns."""
        params = self.params.model_copy(update={way: scale})
        classes = range(self.checkpoint.config.num_labels)
        return SampledImages(model_of(self.runner), params, self.folder, labels=classes)


def main(
    model: Annotated[Path, typer.Option(help="A checkpoint's folder.")] = Path("checkpoints/fashion32"),
    data: Annotated[str, typer.Option(help="The recipe whose images it was trained on.")] = "fashion32",
    images: Annotated[int, typer.Option(min=100, help="Images at each point.")] = 1000,
    references: Annotated[int, typer.Option(min=500, help="Real images of the test split.")] = 2000,
    sampler: Annotated[str | None, typer.Option(help="By default the model's.")] = None,
    steps: Annotated[int | None, typer.Option(help="By default the model's.")] = None,
    spacing: Annotated[str | None, typer.Option(help="By default that of a request.")] = None,
    out: Annotated[Path, typer.Option(help="JSON file; images and points are kept next to it.")] = Path(
        "var/bench-guidance.json"
    ),
    plot: Annotated[Path, typer.Option(help="PNG file.")] = Path("var/bench-guidance.png"),
) -> None:
    """Draws and measures images with more and more guidance on one core, in an hour. Points that exist are kept."""
    machine.warn_if_busy()
    torch.set_num_threads(1)
    checkpoint = load_checkpoint(model)
    config = checkpoint.config
    chosen: dict[str, Any] = {"sampler": sampler, "steps": steps, "spacing": spacing, "guidance_scale": 1.0}
    settings = config.settle(**chosen)
    guide = "none" if checkpoint.classifier is None else file_sha256(model / CLASSIFIER)
    params = SamplingParams(n=1, seed=SEED, label=0, **vars(settings))
    runner = Runner(checkpoint, device=torch.device("cpu"), slots=32)
    facts = {"model": str(model), "sha256": checkpoint.sha256, "classifier": guide, "images": images, **vars(settings)}
    report = Report(out, {**facts, "references": references})

    @cache
    def read() -> tuple[Reference, Extractor]:
        extractor = EfficientNetLite0()
        real = real_images(data, references, shape=config.shape)
        return read_reference(from_array("test images", real), extractor), extractor

    found: dict[str, list[Point]] = {}
    for way, scales in SCALES.items():
        if way == "classifier_scale" and checkpoint.classifier is None:
            say("this model has no classifier")
            continue
        for scale in scales:
            say(f"{way} {scale:g}")
            # A point without guidance is the same whatever the classifier is.
            guided = way == "classifier_scale" and scale != OFF[way]
            drawing = Drawing(checkpoint, runner, params, out.with_suffix("") / (guide[:8] if guided else "unguided"))
            point = measured(drawing.images(way, scale), images, references, read)
            found.setdefault(way, []).append({"scale": scale, **point})
            report.add("points", found)
    show_points(found)
    draw_plot(found, plot)
    report.close()


def measured(
    draw: SampledImages, count: int, references: int, read: Callable[[], tuple[Reference, Extractor]]
) -> Point:
    """Returns the figures of one point's images with their standard errors, and keeps them for the next run."""
    kept = draw.folder / f"figures-{count}-{references}.json"
    if kept.exists():
        point: Point = json.loads(kept.read_text(encoding="utf-8"))
        return point
    reference, extractor = read()
    features = extract_of_size(ImageSet("images", count, draw), extractor, reference.size, lambda share: None)
    point = figures(features, reference)
    kept.write_text(json.dumps(point, indent=2) + "\n", encoding="utf-8")
    return point


def figures(features: Features, reference: Reference) -> Point:
    """Returns figures with standard errors, by a jackknife over groups of the drawn images (Efron 1982, chapter 3).

    Resampling with replacement would not do: an image that is drawn twice is its own nearest neighbour.
    """

    def values(rows: np.ndarray[Any, Any]) -> list[float]:
        comparison = Comparison(Features(*(part[rows] for part in features)), reference)
        return [FIGURES[key].measure(comparison).value for key in MEASURED]

    every = np.arange(len(features.pooled))
    without = np.array([values(np.setdiff1d(every, group)) for group in np.array_split(every, GROUPS)])
    errors = np.sqrt((GROUPS - 1) * without.var(axis=0))
    point = dict(zip(MEASURED, values(every), strict=True))
    return point | {f"{key} error": float(error) for key, error in zip(MEASURED, errors, strict=True)}


def show_points(found: Mapping[str, Sequence[Point]]) -> None:
    """Prints a row for each point."""
    columns = [column for key in MEASURED for column in (key, f"{key} error")]
    rows = [
        (f"{way} {point['scale']:g}", *(point[key] for key in columns))
        for way, points in found.items()
        for point in points
    ]
    show("guidance", ("", *("+-" if key.endswith("error") else key for key in columns)), rows)


def draw_plot(found: Mapping[str, Sequence[Point]], out: Path) -> None:
    """Draws precision against recall, and both and FD against the strength, as a PNG.

    The strength is s or w - 1: with an ideal classifier both would do the same to a class-conditional model.
    """
    figure = Figure(figsize=(15, 4.5), layout="constrained")
    plane, shares, distance = figure.subplots(1, 3)
    for place, (way, points) in enumerate(found.items()):
        look = {"color": f"C{place}", "capsize": 2, "markersize": 5}
        strength = [point["scale"] - OFF[way] for point in points]
        _line(plane, points, "Recall", "Precision", label=NAMES[way], marker="o", **look)
        for point in points:
            at = (point["Recall"], point["Precision"])
            offset = (6, 5) if place == 0 else (-6, -12)
            side = "left" if place == 0 else "right"
            plane.annotate(
                f"{point['scale']:g}", at, offset, textcoords="offset points", color=f"C{place}", fontsize=8, ha=side
            )
        for key, marker, line in (("Precision", "^", "-"), ("Recall", "v", "--")):
            label = f"{key.lower()}, {NAMES[way].partition(',')[0]}"
            _against(shares, strength, points, key, label=label, marker=marker, linestyle=line, **look)
        _against(distance, strength, points, "FD", label=NAMES[way], marker="o", **look)
    plane.set(title="Fidelity for diversity, by scale", xlabel="recall", ylabel="precision")
    shares.set(title="Precision and recall", xlabel="strength: s, or w - 1", ylabel="share of images")
    distance.set(
        title="Fréchet distance to test images", xlabel="strength: s, or w - 1", ylabel=f"FD-{EfficientNetLite0.name}"
    )
    for axes in (plane, shares, distance):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="small")
    save(figure, out)


def _line(axes: Axes, points: Sequence[Point], x: str, y: str, **look: Any) -> None:
    across, up = ([point[key] for point in points] for key in (x, y))
    axes.errorbar(across, up, [p[f"{y} error"] for p in points], [p[f"{x} error"] for p in points], **look)


def _against(axes: Axes, strength: Sequence[float], points: Sequence[Point], key: str, **look: Any) -> None:
    axes.errorbar(strength, [p[key] for p in points], [p[f"{key} error"] for p in points], **look)


if __name__ == "__main__":
    typer.run(main)
