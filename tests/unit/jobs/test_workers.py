"""The reports of workers: which of them count, and the speeds that follow."""

from __future__ import annotations

import time
from typing import Any

import pytest

from difuso.jobs.redis.workers import STALE_SECONDS, ModelReport, WorkerReport, lone_job_seconds, read_reports

REF = "tiny@abababababab"


def report_on(**facts: Any) -> ModelReport:
    return ModelReport(name="tiny", version="ab" * 32, **facts)


def reports(*models: ModelReport) -> list[WorkerReport]:
    return [
        WorkerReport(name=f"worker {index}", at=time.time(), slots=8, models=(model,))
        for index, model in enumerate(models)
    ]


@pytest.mark.parametrize(
    ("ahead", "lives"),
    [(-2 * STALE_SECONDS, False), (-STALE_SECONDS / 2, True), (STALE_SECONDS / 2, True), (2 * STALE_SECONDS, False)],
)
def test_a_report_from_long_ago_or_from_far_in_the_future_does_not_count(ahead: float, lives: bool) -> None:
    """A worker that died when its clock was a day ahead must not be taken for a live one for a day."""
    report = WorkerReport(name="worker", at=time.time() + ahead, slots=8, models=())
    assert read_reports({b"worker": report.model_dump_json().encode()}) == ([report] if lives else [])


def test_a_job_alone_takes_the_time_of_full_batches_or_of_one_image() -> None:
    workers = reports(report_on(ready=True, rate=10.0, step_seconds=0.5))
    assert lone_job_seconds(REF, workers, image_steps=400, images=40) == 400 / 10
    assert lone_job_seconds(REF, workers, image_steps=20, images=2) == 10 * 0.5
    assert lone_job_seconds(REF, reports(report_on(ready=True, rate=10.0)), image_steps=20, images=2) == 20 / 10


def test_the_fastest_worker_counts_and_it_may_be_another_for_another_job() -> None:
    wide, quick = (report_on(ready=True, rate=rate, step_seconds=rate / 100) for rate in (100.0, 10.0))
    assert lone_job_seconds(REF, reports(wide, quick), image_steps=1000, images=100) == 1000 / 100
    assert lone_job_seconds(REF, reports(wide, quick), image_steps=10, images=1) == 10 / 10


def test_workers_that_are_not_ready_or_serve_another_model_do_not_count() -> None:
    loading, unmeasured = report_on(ready=False, rate=10.0), report_on(ready=True)
    for workers in ([], reports(loading, unmeasured)):
        assert lone_job_seconds(REF, workers, image_steps=10, images=1) is None
    assert lone_job_seconds("other@", reports(report_on(ready=True, rate=10.0)), image_steps=10, images=1) is None
