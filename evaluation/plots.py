"""Plots of evaluations, as PNG files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator
from PIL import Image

from .figures import FIGURES, Measured, Quality

MARKERS = "osD^vPX*<>"
PLOTTED = ("KID", "FD")  # keys of figures


@dataclass(frozen=True)
class Curve:
    """The points of one line, with the standard errors of y, if they are known."""

    x: Sequence[float]
    y: Sequence[float]
    errors: Sequence[float] | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes, both logarithmic; a curve has the same look in all panels. Levels are horizontal lines."""

    title: str
    x: str
    y: str
    curves: Mapping[str, Curve]
    levels: Mapping[str, float] = field(default_factory=dict)


def plot_panels(rows: Sequence[Sequence[Panel]], out: Path) -> None:
    """Draws panels, in rows of equal length, as a PNG."""
    panels = [panel for row in rows for panel in row]
    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    height, width = len(rows), len(rows[0])
    figure = Figure(figsize=(5 * width, 4.5 * height), layout="constrained")
    for panel, each in zip(panels, figure.subplots(height, width, squeeze=False).flat, strict=True):
        for name, curve in panel.curves.items():
            place = names.index(name)
            look: dict[str, Any] = {"color": f"C{place % 10}", "marker": MARKERS[place % len(MARKERS)], "markersize": 5}
            each.errorbar(curve.x, curve.y, curve.errors, capsize=2, label=name, **look)
        lowest = min(y for curve in panel.curves.values() for y in curve.y)
        near = {name: level for name, level in panel.levels.items() if level > lowest / 2}
        for line, (name, level) in zip(cycle(("--", ":", "-.")), near.items(), strict=False):
            each.axhline(level, color="black", linewidth=1, linestyle=line, label=name)
        for name, level in panel.levels.items():
            if name not in near:  # a line so far below would flatten the curves
                each.plot([], [], " ", label=f"{name}: {level:.2g}, far below")
        each.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
        each.set_xscale("log")
        each.set_yscale("log", nonpositive="clip")
        each.margins(0.06)
        _label(each.xaxis, [x for curve in panel.curves.values() for x in curve.x])
        _label(each.yaxis, [*(y for curve in panel.curves.values() for y in curve.y), *near.values()])
        each.grid(alpha=0.3)
        each.legend(fontsize="small")
    save(figure, out)


def plot_quality(qualities: Sequence[Quality], out: Path) -> None:
    """Plots figures over steps and, where they are known, over seconds, as a PNG.

    Images that no model drew are horizontal lines.
    """
    plot_panels([_quality_panels(qualities, key) for key in PLOTTED], out)


def _quality_panels(qualities: Sequence[Quality], key: str) -> list[Panel]:
    name = FIGURES[key].name(qualities[0].extractor)
    levels = {quality.name: quality.figures[key].value for quality in qualities if quality.drawn_by is None}
    by_steps: dict[str, list[tuple[float, Measured]]] = {}
    by_time: dict[str, list[tuple[float, Measured]]] = {}
    for quality in qualities:
        if (way := quality.drawn_by) is not None:
            line, measured = f"{way['sampler']}, {way['spacing']}", quality.figures[key]
            by_steps.setdefault(line, []).append((way["steps"], measured))
            if quality.seconds_per_image is not None:
                by_time.setdefault(line, []).append((quality.seconds_per_image, measured))
    return [
        Panel(f"{name} by {by}", x, name, {line: _curve(each) for line, each in points.items()}, levels)
        for by, x, points in (("steps", "steps (network calls)", by_steps), ("time", "seconds per image", by_time))
        if points
    ]


def _curve(points: Sequence[tuple[float, Measured]]) -> Curve:
    points = sorted(points, key=lambda point: point[0])
    errors = [measured.spread for _, measured in points if measured.spread is not None]
    return Curve([x for x, _ in points], [measured.value for _, measured in points], errors or None)


def _label(axis: Axis, values: Sequence[float]) -> None:
    """Labels an axis with plain numbers: the values if they are whole, few and apart, as steps are, else round ones."""
    at = sorted({value for value in values if value > 0})
    apart = len(at) <= 8 and all(higher >= 1.3 * lower for lower, higher in pairwise(at))
    if not (apart and at and all(float(value).is_integer() for value in at)):
        narrow = at and at[-1] < 3 * at[0]
        at = list(MaxNLocator(5).tick_values(at[0], at[-1])) if narrow else []
    axis.set_major_locator(FixedLocator(at) if at else LogLocator(subs=(1, 2, 5)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter("{x:.4g}")


def save(figure: Figure, out: Path) -> None:
    """Writes a figure as a PNG of few colours."""
    image = BytesIO()
    figure.savefig(image, dpi=100)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.open(image).convert("RGB").quantize(64).save(out, optimize=True)  # a third of the bytes
