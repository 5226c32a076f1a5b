"""Plots can be read: every axis has numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evaluation import plots
from evaluation.plots import Curve, Panel, plot_panels


@pytest.mark.parametrize("y", [[96.9, 72.7, 80.0], [0.0864, 0.1373, 0.09], [3e-4, 2.0, 700.0], [1.0, 1.0, 1.0]])
def test_every_axis_has_numbers_and_steps_are_named_one_by_one(
    y: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(plots, "save", lambda figure, out: figures.append(figure))
    panel = Panel("title", "steps", "FD", {"ddim": Curve([10, 50, 250], y)}, {"real": -1.0})
    plot_panels([[panel]], tmp_path / "plot.png")
    figures[0].draw_without_rendering()
    (axes,) = figures[0].axes
    low, high = axes.get_ylim()
    assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 1 + (max(y) > 1.1 * min(y))
    assert axes.get_xticks().tolist() == [10, 50, 250]
    assert "real: -1, far below" in [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_lone_point_is_drawn_without_a_warning(tmp_path: Path) -> None:
    plot_panels([[Panel("title", "steps", "FD", {"ddim": Curve([2], [25.4])})]], tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size
