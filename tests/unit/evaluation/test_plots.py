"""Plots can be read: every axis has numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from difuso.evaluation import plots
from difuso.evaluation.figures import FIGURES, Measured, Quality
from difuso.evaluation.plots import plot_quality


def quality(value: float, steps: int | None) -> Quality:
    drawn_by = None if steps is None else {"sampler": "ddim", "spacing": "leading", "steps": steps}
    figures = dict.fromkeys(FIGURES, Measured(value, "all"))
    return Quality("drawn" if steps else "real", "Plain", "real", 30, 6, figures, drawn_by)


@pytest.mark.parametrize("y", [[96.9, 72.7, 80.0], [0.0864, 0.1373, 0.09], [3e-4, 2.0, 700.0], [1.0, 1.0, 1.0]])
def test_every_axis_has_numbers_and_steps_are_named_one_by_one(
    y: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(plots, "save", lambda figure, out: figures.append(figure))
    drawn = [quality(value, steps) for steps, value in zip((10, 50, 250), y, strict=True)]
    plot_quality([*drawn, quality(-1.0, None)], tmp_path / "plot.png")
    figures[0].draw_without_rendering()
    for axes in figures[0].axes:
        low, high = axes.get_ylim()
        assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 1 + (max(y) > 1.1 * min(y))
        assert axes.get_xticks().tolist() == [10, 50, 250]
        assert "real: -1, far below" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_lone_point_is_drawn_without_a_warning(tmp_path: Path) -> None:
    plot_quality([quality(25.4, 2)], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size
