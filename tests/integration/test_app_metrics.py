"""What /metrics shows of the queue, the workers and the store."""

from __future__ import annotations

import re
from pathlib import Path
from shutil import rmtree

import httpx

from tests.app_server import FakeWorker
from tests.waiting import wait_until

ASYNC = {"Prefer": "respond-async"}


def test_metrics_have_the_promised_names_and_no_unbounded_labels(new_api: httpx.Client, worker: FakeWorker) -> None:
    worker.report(ready=True, rate=10.0)
    job = new_api.post("/generate", headers=ASYNC).json()
    first = new_api.get("/metrics").text
    for path in [f"/nothing/{index}" for index in range(30)] + [job["links"]["self"]]:
        new_api.get(path)
    text = new_api.get("/metrics").text
    for name in (
        'difuso_http_request_duration_seconds_count{method="POST",route="/generate",status="202"} 1.0',
        'difuso_jobs_accepted_total{kind="generate",model="tiny"} 1.0',
        'difuso_backlog_image_steps{model="tiny"} 50.0',
        'difuso_backlog_seconds{model="tiny"} 5.0',
        "difuso_queue_oldest_age_seconds",
        "# TYPE difuso_redis_errors_total counter",
        'difuso_build_info{python_version="',
        'difuso_rq_jobs{queue="difuso.tiny.3",status="queued"} 1.0',
        'difuso_rq_jobs{queue="difuso.tiny.3",status="failed"} 0.0',
        'difuso_workers{model="tiny"} 1.0',
        'difuso_model_versions{model="tiny"} 1.0',
        "difuso_redis_memory_used_bytes ",
        "difuso_redis_memory_max_bytes 0.0",
        "difuso_redis_append_only_ok 1.0",
        "difuso_store_free_bytes ",
        "difuso_store_size_bytes ",
        "difuso_store_ok 1.0",
        'difuso_store_errors_total{op="check"} 0.0',
        'difuso_store_seconds_count{op="read"} ',
    ):
        assert name in text
    assert job["id"] not in text
    assert "/nothing" not in text
    assert "_created" not in text
    assert len(text.splitlines()) < len(first.splitlines()) + 80


def test_the_backlog_in_seconds_is_known_where_there_is_no_work_or_a_rate(
    api: httpx.Client, worker: FakeWorker
) -> None:
    def seconds() -> list[str]:
        return re.findall(r'^difuso_backlog_seconds{model="tiny"} (.+)$', api.get("/metrics").text, re.MULTILINE)

    assert seconds() == ["0.0"]
    api.post("/generate", headers=ASYNC)
    assert seconds() == []
    worker.report(ready=True, name="new")
    assert seconds() == []
    for name, rate in (("fast", 20.0), ("slow", 5.0)):
        worker.report(ready=True, rate=rate, name=name)
    assert seconds() == ["2.0"], "50 image-steps at 25 a second"


def test_the_versions_of_a_model_are_those_of_its_ready_workers(api: httpx.Client, worker: FakeWorker) -> None:
    worker.report(ready=True, version="a" * 64, name="one")
    worker.report(ready=True, version="a" * 64, name="two")
    worker.report(ready=False, version="c" * 64, name="warming")
    assert 'difuso_model_versions{model="tiny"} 1.0' in api.get("/metrics").text
    worker.report(ready=True, version="b" * 64, name="two")
    assert 'difuso_model_versions{model="tiny"} 2.0' in api.get("/metrics").text


def test_metrics_show_a_store_that_takes_no_files(new_api: httpx.Client, tmp_path: Path) -> None:
    """It is tried once a second."""

    def shows(line: str) -> bool:
        return line in new_api.get("/metrics").text

    assert shows("difuso_store_ok 1.0")
    rmtree(tmp_path / "store")
    (tmp_path / "store").touch()
    wait_until(lambda: shows("difuso_store_ok 0.0"), 10, "the metrics show it")
    assert shows('difuso_store_errors_total{op="check"}')
    (tmp_path / "store").unlink()
    wait_until(lambda: shows("difuso_store_ok 1.0"), 10, "the metrics show that it is over")
