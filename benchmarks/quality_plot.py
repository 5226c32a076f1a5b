"""Draws docs/images/quality.svg: the quality of the models that ship, over the time of an image, which it measures.

The figures are those of each model's quality.json, which `difuso evaluate quality` wrote; its default comes first.
"""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure

from difuso.model.processor import processor_name

from .idle import network_seconds

MODELS, OUT = Path("checkpoints"), Path("docs/images/quality.svg")
KINDS = {  # by how the names of models begin: a colour, what is real, and where that is written, a share of the width
    "faces": ("#3b82f6", "real drawn faces", 0.02),
    "satellite": ("#2f9e58", "real photographs", 0.3),
    "fashion": ("#dd6b20", "real images of clothes", 0.02),
}
INK, PAPER = "#010203", "#fefdfc"  # become the colours of the reader's scheme
INKED = ("text.color", "xtick.color", "ytick.color", "grid.color", "axes.labelcolor", "axes.edgecolor")
LOOK: Any = {"svg.fonttype": "none", "svg.hashsalt": "", "axes.facecolor": PAPER, **dict.fromkeys(INKED, INK)}
SCHEMES = ":root{--ink:#1f2328;--paper:#fff}@media(prefers-color-scheme:dark){:root{--ink:#d8dee4;--paper:#0d1117}}"
TICKS = {"x": (10, 20, 50, 100, 200, 500, 1000, 2000), "y": (0, 1, 2, 5, 10, 20, 30, 40, 60)}
CALLS = 200  # that are timed, of which the fastest counts


def plot(records: dict[str, Any], milliseconds: dict[str, float], where: str) -> str:
    """Returns the plot as SVG: by models' names the contents of quality.json, and the time of a call there."""
    figure = Figure(figsize=(8, 4.8), layout="constrained")
    axes = figure.subplots()
    axes.set_yscale("function", functions=(np.sqrt, np.square))
    for name, record in records.items():
        colour, real, place = next(each for beginning, each in KINDS.items() if name.startswith(beginning))
        kid = [next(each for key, each in row["figures"].items() if key[:3] == "KID") for row in record["rows"]]
        *values, level = (max(0.0, 1000 * each["value"]) for each in kid)  # the last are real
        calls = [row["drawn"]["steps"] for row in record["rows"][:-1]]
        times = [milliseconds[name] * each for each in calls]
        axes.errorbar(times, values, [1000 * each["spread"] for each in kid[:-1]], color=colour, linewidth=1)
        axes.plot(times, values, "o", color=colour, markerfacecolor=PAPER, markersize=7)
        axes.plot(times[0], values[0], "o", color=colour, markersize=7)
        for number, time, value in zip(calls, times, values, strict=True):
            words, shift, align = f"{number} call{'s' * (number > 1)}", (-3, -14), "right"
            if time == times[0]:
                words = f"{name}, {words}"
                shift, align = ((0, 9), "center") if len(times) == 1 else ((9, -4), "left")
            axes.annotate(words, (time, value), shift, textcoords="offset points", ha=align, color=colour)
        if real not in [each.get_text() for each in axes.texts]:
            axes.axhline(level, color=colour, linestyle=":", linewidth=2, clip_on=False)
            axes.annotate(real, (place, level), (0, 3), ("axes fraction", "data"), "offset points", color=colour)
    axes.set(xscale="log", xlim=(5, 2500), ylim=(0, 75), xlabel=f"milliseconds an image, on one core of {where}")
    axes.set_ylabel("KID \u00d7 1000, less is better")
    for axis, ticks in TICKS.items():
        axes.set(**{f"{axis}ticks": ticks, f"{axis}ticklabels": ticks})
    axes.minorticks_off()
    axes.grid(alpha=0.2)
    figure.savefig(file := StringIO(), format="svg", metadata={"Date": None}, facecolor=PAPER)
    schemed = file.getvalue().replace(INK, "var(--ink)").replace(PAPER, "var(--paper)")
    return schemed.replace("<defs>", f"<style>{SCHEMES}</style><defs>", 1)


def main() -> None:
    """Times the networks, and draws the plot."""
    torch.set_num_threads(1)
    records = {path.parent.name: json.loads(path.read_bytes()) for path in sorted(MODELS.glob("*/quality.json"))}
    times = {name: 1000 * min(network_seconds(MODELS / name, calls=1, count=CALLS)) for name in records}
    with rc_context(LOOK):
        OUT.write_text(plot(records, times, processor_name()), encoding="utf-8")
    print(OUT, {name: f"{each:.1f} ms a call" for name, each in times.items()})


if __name__ == "__main__":
    main()
