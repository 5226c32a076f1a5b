"""Models that enlarge at the front end: what they show, and where no worker can run them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from difuso.app.settings import ApiSettings
from tests.app_server import FakeWorker, running

ASYNC = {"Prefer": "respond-async"}


@pytest.fixture
def settings(redis_url: str, cascade_models_dir: Path, tmp_path: Path) -> ApiSettings:
    return ApiSettings(redis_url=redis_url, models_dir=cascade_models_dir, store_url=str(tmp_path / "store"))


@pytest.fixture
def api(settings: ApiSettings) -> Iterator[httpx.Client]:
    with running(settings) as client:
        yield client


def test_models_show_what_they_draw_from(api: httpx.Client) -> None:
    listed = api.get("/models").json()
    assert listed["default"] == "tiny"
    plain, conditional = listed["models"]
    assert "condition" not in plain
    assert conditional["condition"] == {"size": 16, "channels": 3, "augmentation": 0.1, "max_augmentation": 0.5}


def test_a_cascade_is_refused_where_no_worker_can_run_its_second_stage(api: httpx.Client, worker: FakeWorker) -> None:
    worker.report(ready=True, rate=10.0)
    worker.report(ready=False, reason="it is torn", name="other", of="tiny-up")
    assert api.post("/generate", headers=ASYNC).status_code == 202
    answer = api.post("/generate?upscale=tiny-up", headers=ASYNC)
    assert answer.status_code == 503
    assert "tiny-up: it is torn" in answer.text
