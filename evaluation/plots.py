"""Plots of evaluations, as PNG files."""

from collections.abc import Sequence
from io import BytesIO
from itertools import cycle
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator
from PIL import Image

from .figures import FIGURES, Measured, Quality

MARKERS = "osD^vPX*<>"
PLOTTED = ("KID", "FD")  # keys of figures


def plot_quality(qualities: Sequence[Quality], out: Path) -> None:
    """Plots figures over steps, both axes logarithmic, as a PNG. Images that no model drew are horizontal lines."""
    figure = Figure(figsize=(5 * len(PLOTTED), 4.5), layout="constrained")
    for axes, key in zip(figure.subplots(1, len(PLOTTED)), PLOTTED, strict=True):
        _plot(axes, qualities, key)
    save(figure, out)


def _plot(axes: Axes, qualities: Sequence[Quality], key: str) -> None:
    levels = {quality.name: quality.figures[key].value for quality in qualities if quality.drawn_by is None}
    lines: dict[str, list[tuple[float, Measured]]] = {}
    for quality in qualities:
        if (way := quality.drawn_by) is not None:
            lines.setdefault(f"{way['sampler']}, {way['spacing']}", []).append((way["steps"], quality.figures[key]))
    for marker, (name, points) in zip(cycle(MARKERS), lines.items(), strict=False):
        points.sort(key=lambda point: point[0])
        values = [measured.value for _, measured in points]
        errors = [measured.spread or 0.0 for _, measured in points]
        axes.errorbar(
            [x for x, _ in points], values, errors if any(errors) else None, capsize=2, label=name, marker=marker,
            markersize=5,
        )  # fmt: skip
    drawn = [measured.value for points in lines.values() for _, measured in points]
    near = {name: level for name, level in levels.items() if level > min(drawn) / 2}
    for line, (name, level) in zip(cycle(("--", ":", "-.")), near.items(), strict=False):
        axes.axhline(level, color="black", linewidth=1, linestyle=line, label=name)
    for name, level in levels.items():
        if name not in near:  # a line so far below would flatten the curves
            axes.plot([], [], " ", label=f"{name}: {level:.2g}, far below")
    axes.set(xlabel="steps (network calls)", ylabel=FIGURES[key].name(qualities[0].extractor))
    axes.set_xscale("log")
    axes.set_yscale("log", nonpositive="clip")
    axes.margins(0.06)
    axes.xaxis.set_major_locator(FixedLocator(sorted({x for points in lines.values() for x, _ in points})))
    shown = [value for value in (*drawn, *near.values()) if value > 0]
    narrow = bool(shown) and max(shown) < 3 * min(shown)
    round_numbers = MaxNLocator(5).tick_values(min(shown), max(shown)) if narrow else ()
    axes.yaxis.set_major_locator(FixedLocator(round_numbers) if narrow else LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter("{x:.4g}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def save(figure: Figure, out: Path) -> None:
    """Writes a figure as a PNG of few colours."""
    image = BytesIO()
    figure.savefig(image, dpi=100)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.open(image).convert("RGB").quantize(64).save(out, optimize=True)  # a third of the bytes
