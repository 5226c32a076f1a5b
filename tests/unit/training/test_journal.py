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


def test_a_torn_metrics_line_is_passed_over_and_a_step_that_is_made_again_has_one_line(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}, {"step": 2, "kid": 9.0}, {"step": 3, "loss": 3.5}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 4, "lo', encoding="utf-8")
    assert read_metrics(path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0, "kid": 9.0}, lines[3]]
    with closing(Journal(tmp_path, 2)) as journal:  # killed after step 3, saved at step 2
        journal.write(3, {"loss": 3.0, "lr": 4e-7})
    with closing(Journal(tmp_path, 3)) as journal:
        journal.write(4, {"loss": 4.0})
    again = [{"step": 3, "loss": 3.0, "lr": 4e-7}, {"step": 4, "loss": 4.0}]
    assert [json.loads(line) for line in path.read_text("utf-8").splitlines()] == [*lines[:3], *again]
