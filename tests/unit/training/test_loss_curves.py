"""Loss curves can be read: smoothing bends nothing, and every axis has numbers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from difuso.training.run.loss_curves import plot_run, smoothed


def test_smoothing_leaves_a_straight_line_and_both_ends_as_they_are() -> None:
    line = np.arange(30.0)
    assert smoothed(line) == pytest.approx(line)
    noisy = line + np.random.default_rng(0).normal(size=30)
    assert (smoothed(noisy)[0], smoothed(noisy)[-1]) == (noisy[0], noisy[-1])
    assert np.diff(smoothed(noisy), 2).std() < np.diff(noisy, 2).std() / 3
    assert smoothed(line[:1]) == pytest.approx(line[:1])


@pytest.mark.parametrize(("first", "last"), [(0.05, 0.04), (300.0, 0.2), (0.5, -2)])
def test_the_losses_have_numbers_whatever_their_range(
    first: float, last: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [{"step": step, "loss": loss} for step, loss in enumerate(_falling(first, last), 1)]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, out, dpi: figures.append(figure))
    plot_run(tmp_path, tmp_path / "losses.png")
    (axes,) = figures[0].axes
    low, high = axes.get_ylim()
    ticks = [*axes.yaxis.get_majorticklabels(), *axes.yaxis.get_minorticklabels()]
    shown = {tick.get_text() for tick in ticks if tick.get_text() and low <= tick.get_position()[1] <= high}
    assert len(shown) >= 2
    assert low < last


def _falling(first: float, last: float) -> list[float]:
    """Returns losses; those of learned weights become negative."""
    space = np.geomspace if last > 0 else np.linspace
    return list(map(float, space(first, last, 50)))


def test_samples_stand_below_the_curve_left_of_their_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "metrics.jsonl").write_text(
        "\n".join(json.dumps({"step": s, "loss": 1 / s}) for s in range(100, 1700, 100))
    )
    (tmp_path / "moments").mkdir()
    for step in (150, 200, 900, 1600):  # of two in an eighth of the run the later counts
        Image.new("RGB", (4, 4), (step % 256, 0, 0)).save(tmp_path / "moments" / f"{step:08d}.png")
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, out, dpi: figures.append(figure))
    plot_run(tmp_path, tmp_path / "losses.png")
    curve, strip = figures[0].axes
    assert curve.get_xlim() == strip.get_xlim()
    shown = {tuple(each.get_extent())[:2]: int(np.asarray(each.get_array())[0, 0, 0]) for each in strip.images}
    assert shown == {(0, 200): 200, (800, 1000): 900 % 256, (1400, 1600): 1600 % 256}


def test_a_run_that_has_logged_nothing_yet_has_a_plot(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").touch()
    plot_run(tmp_path, tmp_path / "losses.png")
    assert (tmp_path / "losses.png").stat().st_size
