"""The tables and the plot of `benchmarks.quality`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from evaluation.features import EfficientNetLite0
from evaluation.figures import FIGURES
from evaluation.plots import Curve, Panel, plot_panels

from .report import show

KID = FIGURES["KID"].name(EfficientNetLite0.name)
LEFT_OUT = ("sFD", "IS")  # of the tables; the JSON file has them

Point = Mapping[str, Any]


def show_tried(tried: Mapping[str, Sequence[Point]], reals: Sequence[Point], facts: Mapping[str, Any]) -> None:
    """Prints all cells that were tried, a row for each sampler and number of steps."""
    points = [{"name": name, **point} for name, each in tried.items() for point in each]
    _show(f"tried, to choose by and not to report; {_ranges(facts)}", ("name", "steps"), [*reals, *points])


def show_reported(reported: Sequence[Point], reals: Sequence[Point], facts: Mapping[str, Any]) -> None:
    """Prints the chosen cells, as measured on the other half."""
    _show(f"reported; {_ranges(facts)}", ("name", "steps", "why"), [*reals, *reported])


def _ranges(facts: Mapping[str, Any]) -> str:
    first, last = facts["seeds"]
    return f"seeds {first} to {last}, against {facts['references']} of {facts['of']}; KID x 1000"


def _show(title: str, words: Sequence[str], points: Sequence[Point]) -> None:
    figures = [key for key in points[0] if key not in ("name", "images") and not key.startswith(LEFT_OUT)]
    keys = [*figures, *(key for key in ("grey_levels", "seconds_per_image") if any(key in point for point in points))]
    columns = ("+-" if key.endswith("error") else key.split("-")[0] for key in keys)
    rows = [(*(point.get(word, "") for word in (*words, "images")), *_cells(point, keys)) for point in points]
    show(title, (*words, "images", *columns), rows)


def _cells(point: Point, keys: Sequence[str]) -> list[object]:
    return [1000 * point[key] if key.startswith("KID") else point.get(key, "") for key in keys]


def draw_plot(tried: Mapping[str, Sequence[Point]], reals: Sequence[Point], out: Path) -> None:
    """Draws quality against steps and seconds, and the distance of an image from its limit, as a PNG."""

    def quality(axis: str) -> dict[str, Curve]:
        return {
            name: Curve(
                [point[axis] for point in points],
                [1000 * point[KID] for point in points],
                [1000 * point[f"{KID} error"] for point in points],
            )
            for name, points in tried.items()
        }

    apart = {name: [point for point in points if "grey_levels" in point] for name, points in tried.items()}
    distance = {
        name: Curve([point["steps"] for point in points], [point["grey_levels"] for point in points])
        for name, points in apart.items()
        if points
    }
    real = f"Distance from real pictures (others of them: {1000 * reals[-1][KID]:.1f})"
    panels = [
        Panel(real, "steps (network calls)", f"{KID} x 1000", quality("steps")),
        Panel("The same, by time on one core", "seconds per picture", f"{KID} x 1000", quality("seconds_per_image")),
        Panel(
            "Distance from the same seed, converged",
            "steps (network calls)",
            "grey levels, root mean square",
            distance,
        ),
    ]
    plot_panels([panels], out)
