"""Plots of evaluations, as PNG files."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from itertools import cycle, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

MARKERS = "osD^vPX*<>"


@dataclass(frozen=True)
class Curve:
    """Points of one line.

    Attributes:
        errors: standard errors of y, if they are known.
    """

    x: Sequence[float]
    y: Sequence[float]
    errors: Sequence[float] | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes, both logarithmic; a curve has the same look in all panels.

    Attributes:
        levels: of what has no x, as horizontal lines.
    """

    title: str
    x: str
    y: str
    curves: Mapping[str, Curve]
    levels: Mapping[str, float] = field(default_factory=dict)


def plot_panels(rows: Sequence[Sequence[Panel]], out: Path) -> None:
    """Panels in rows of equal length."""
    plt = _pyplot()
    panels = [panel for row in rows for panel in row]
    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    height, width = len(rows), len(rows[0])
    figure, axes = plt.subplots(height, width, figsize=(5 * width, 4.5 * height), layout="constrained", squeeze=False)
    for panel, each in zip(panels, axes.flat, strict=True):
        for name, curve in panel.curves.items():
            place = names.index(name)
            look: dict[str, Any] = {"color": f"C{place % 10}", "marker": MARKERS[place % len(MARKERS)], "markersize": 5}
            each.errorbar(curve.x, curve.y, curve.errors, capsize=2, label=name, **look)
        lowest = min(y for curve in panel.curves.values() for y in curve.y)
        near = {name: level for name, level in panel.levels.items() if level > lowest / 2}
        for line, (name, level) in zip(cycle(("--", ":", "-.")), near.items(), strict=False):
            each.axhline(level, color="black", linewidth=1, linestyle=line, label=name)
        for name, level in panel.levels.items():
            if name not in near:  # a line there would press the curves together
                each.plot([], [], " ", label=f"{name}: {level:.2g}, far below")
        each.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
        each.set_xscale("log")
        each.set_yscale("log", nonpositive="clip")
        each.margins(0.06)
        _label(each.xaxis, [x for curve in panel.curves.values() for x in curve.x])
        _label(each.yaxis, [*(y for curve in panel.curves.values() for y in curve.y), *near.values()])
        each.grid(alpha=0.3)
        each.legend(fontsize="small")
    _save(figure, out)


def _label(axis: Axis, values: Sequence[float]) -> None:
    """Plain numbers: the values if they are whole, few and apart, as steps are; else round ones between them."""
    from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator, StrMethodFormatter

    at = sorted({value for value in values if value > 0})
    if not at:
        return
    crowded = len(at) > 8 or any(higher < 1.3 * lower for lower, higher in pairwise(at))
    if crowded or not all(float(value).is_integer() for value in at):
        powers = range(math.floor(math.log10(at[0])), math.ceil(math.log10(at[-1])) + 1)
        digits = (1, 2, 5) if len(powers) > 3 else (1, 1.5, 2, 3, 5, 7)
        narrow = at[-1] < 3 * at[0]
        round_ones = [digit * 10.0**power for power in powers for digit in digits]
        at = list(MaxNLocator(5).tick_values(at[0], at[-1])) if narrow else round_ones
    axis.set_major_locator(FixedLocator(at))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(StrMethodFormatter("{x:.4g}"))


def _pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt


def _save(figure: Figure, out: Path) -> None:
    import matplotlib.pyplot as plt

    picture = BytesIO()
    figure.savefig(picture, dpi=100)
    plt.close(figure)
    out.parent.mkdir(parents=True, exist_ok=True)
    Image.open(picture).convert("RGB").quantize(64).save(out, optimize=True)  # a third of the bytes
