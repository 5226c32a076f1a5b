"""Loss curves of training runs as PNG files: of metrics.jsonl, with samples below, from moments/."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullLocator
from PIL import Image

METRICS, MOMENTS = "metrics.jsonl", "moments"
WINDOW = 9  # lines of a log over which a smoothed loss is the mean
SHOWN = 8  # moments of a run, whose samples stand below its curve

Entries = list[dict[str, Any]]
Values = np.ndarray[Any, Any]


def read_metrics(path: Path) -> Entries:
    """Reads one entry for each step of a metrics.jsonl; of a figure logged twice, around a resume, the later counts."""
    by_step: dict[int, dict[str, Any]] = {}
    for line in path.read_text("utf-8").splitlines():
        with suppress(json.JSONDecodeError):  # a line that a killed process left unfinished
            entry = json.loads(line)
            by_step.setdefault(entry["step"], {}).update(entry)
    return [by_step[step] for step in sorted(by_step)]


def plot_run(folder: Path, out: Path) -> None:
    """Plots the logged losses of a run, over all timesteps and by quarter of them.

    The plot also shows its KID, or the accuracy of a classifier on held-out images. Below, on the same axis of steps,
    stand samples of some moments, each left of the step at which it was drawn.
    """
    entries = read_metrics(folder / METRICS)
    labels = {"loss": "all t", "loss/t<50": "t < 50"}
    labels |= {f"loss/q{quarter}": f"quarter {quarter} of t" for quarter in range(1, 5)}
    ylabel = "cross-entropy" if any("accuracy" in entry for entry in entries) else "mean squared error"
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    moments = {int(path.stem): path for path in (folder / MOMENTS).glob("*.png")}  # by step
    if moments:
        figure.set_figheight(5.5)
        axes, strip = figure.subplots(2, sharex=True, height_ratios=(4.5, 1))
        _show(moments, strip)
    else:
        axes = figure.subplots()
    _plot({label: (entries, key) for key, label in labels.items()}, axes, ylabel=ylabel)
    for key, label in (("kid", "KID x 1000"), ("held_out/accuracy", "accuracy on held-out images")):
        _dot([(entry["step"], entry[key]) for entry in entries if key in entry], axes, label)
    _save(figure, out)


def plot_runs(folders: Sequence[Path], out: Path, *, key: str = "loss") -> None:
    """Plots the logged value `key` of several runs, each a folder with a metrics.jsonl.

    Raises ValueError if a run did not log it.
    """
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) < len(names):
        names = list(map(str, folders))
    curves: dict[str, tuple[Entries, str]] = {}
    for name, folder in zip(names, folders, strict=True):
        if not (folder / METRICS).is_file():
            raise ValueError(f"{folder} holds no {METRICS}")
        curves[name] = read_metrics(folder / METRICS), key
        if not any(key in entry for entry in curves[name][0]):
            raise ValueError(f"{name} did not log {key}: take a key of its {METRICS}")
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    _plot(curves, figure.subplots(), ylabel=key)
    _save(figure, out)


def smoothed(values: Values) -> Values:
    """Averages over a window that shrinks towards both ends, so that neither end is bent."""
    reach = [min(WINDOW // 2, i, len(values) - 1 - i) for i in range(len(values))]
    return np.array([values[i - r : i + r + 1].mean() for i, r in enumerate(reach)])


def _plot(curves: Mapping[str, tuple[Entries, str]], axes: Axes, *, ylabel: str) -> None:
    """Plots each curve smoothed, over a pale line of the logged values."""
    for place, (label, (entries, key)) in enumerate(curves.items()):
        logged = [(entry["step"], entry[key]) for entry in entries if key in entry]
        steps, values = np.array(logged, dtype=float).reshape(-1, 2).T
        axes.plot(steps, values, color=f"C{place % 10}", alpha=0.25, linewidth=0.8)
        axes.plot(steps, smoothed(values), color=f"C{place % 10}", label=label)
    axes.set(ylabel=ylabel)
    if axes.dataLim.y0 > 0:  # a loss of learned weights becomes negative
        axes.set(yscale="log")
        low, high = axes.get_ylim()
        narrow = FixedLocator(MaxNLocator(5).tick_values(low, high))
        axes.yaxis.set_major_locator(narrow if high < 3 * low else LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _dot(dots: Sequence[tuple[int, float]], axes: Axes, label: str) -> None:
    """Plots (step, value) pairs, if there are any, on an axis of their own."""
    if not dots:
        return
    right = axes.twinx()
    right.plot(*zip(*dots, strict=True), "ko:", markersize=4, label=label)
    right.set(ylabel=label, ylim=(0, None))
    rises = dots[-1][1] > dots[0][1]
    right.legend(fontsize="small", loc="lower right" if rises else "upper center")


def _show(moments: Mapping[int, Path], strip: Axes) -> None:
    """Shows the samples of moments at equal distances of the run, each in the part of it that ends with the moment."""
    ends = [max(moments) * part / SHOWN for part in range(SHOWN + 1)]
    for begin, end in pairwise(ends):
        step = max((step for step in moments if begin < step <= end), default=None)
        if step is not None:
            with Image.open(moments[step]) as samples:
                strip.imshow(
                    samples.convert("RGB"), extent=(begin, end, 0, 1), aspect="auto", interpolation="antialiased"
                )
    strip.set(ylim=(0, 1), yticks=[])


def _save(figure: Figure, out: Path) -> None:
    figure.supxlabel("step", fontsize="medium")
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=100)
