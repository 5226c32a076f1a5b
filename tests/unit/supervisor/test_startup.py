"""What is said at the start: mistakes before any process runs, and that difuso is ready."""

from __future__ import annotations

from pathlib import Path

import pytest

from difuso.jobs.errors import StoreUnavailable
from difuso.jobs.redis.workers import ModelReport, WorkerReport
from difuso.jobs.store.result_store import ResultStore
from difuso.supervisor.standalone import merged
from difuso.supervisor.startup_checks import check_store


def test_a_store_that_does_not_answer_in_time_is_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(store: ResultStore) -> None:
        raise StoreUnavailable from TimeoutError()

    check_store(str(tmp_path))
    monkeypatch.setattr(ResultStore, "check", hang)
    check_store(str(tmp_path))


def test_a_model_is_ready_when_one_of_several_workers_serves_it() -> None:
    serves = {name: ModelReport(name=name, ready=True) for name in "xyz"}
    refuses = {name: ModelReport(name=name, ready=False, reason="no memory") for name in "xyz"}
    reports = [
        WorkerReport(name=name, at=0, slots=16, models=models)
        for name, models in (("a", (serves["x"], refuses["y"])), ("b", (refuses["x"], serves["z"])))
    ]
    assert merged(reports) == {"x": serves["x"], "y": refuses["y"], "z": serves["z"]}
