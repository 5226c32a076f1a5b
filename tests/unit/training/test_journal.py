"""The log of a run can be read after a kill, and the axes of its loss curves have numbers."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from difuso.training.run.journal import Journal, plot_run, read_metrics


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


def test_a_run_that_has_logged_nothing_yet_has_a_plot(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").touch()
    plot_run(tmp_path, tmp_path / "losses.png")
    assert (tmp_path / "losses.png").stat().st_size


def test_a_torn_metrics_line_is_passed_over_and_repeated_steps_count_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}, {"step": 2, "loss": 3.0}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "lo', encoding="utf-8")
    assert read_metrics(path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 3.0}]
    with closing(Journal(tmp_path)) as journal:
        journal.write(4, {"loss": 4.0, "lr": 4e-7})
    with closing(Journal(tmp_path)) as journal:
        journal.write(5, {"loss": 5.0})
    assert [entry["step"] for entry in read_metrics(path)] == [1, 2, 4, 5]
    assert read_metrics(path)[2]["lr"] == 4e-7
