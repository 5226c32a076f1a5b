"""/upscale and cascades at the front end: models, refusals and prices, on a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from difuso.app.settings import ApiSettings
from tests.app_server import FakeWorker, running
from tests.pictures import saved

ASYNC = {"Prefer": "respond-async"}
PICTURE = saved(Image.linear_gradient("L").resize((40, 30)).convert("RGB"), "PNG")


@pytest.fixture
def settings(redis_url: str, cascade_models_dir: Path, tmp_path: Path) -> ApiSettings:
    return ApiSettings(redis_url=redis_url, models_dir=cascade_models_dir, store_url=str(tmp_path / "store"))


@pytest.fixture
def api(settings: ApiSettings) -> Iterator[httpx.Client]:
    with running(settings) as client:
        yield client


def post(api: httpx.Client, kind: str, **query: Any) -> httpx.Response:
    files = None if kind == "generate" else {"image": PICTURE}
    return api.post(f"/{kind}", params=query, files=files, headers=ASYNC)


def errors(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 422, answer.text
    found: list[dict[str, str]] = answer.json()["errors"]
    return found


def test_models_show_what_they_draw_from(api: httpx.Client) -> None:
    listed = api.get("/models").json()
    assert listed["default"] == "tiny"
    plain, conditional = listed["models"]
    assert "condition" not in plain
    assert conditional["condition"] == {"size": 16, "channels": 3, "augmentation": 0.1, "max_augmentation": 0.5}


def test_the_price_of_a_cascade_counts_both_stages(api: httpx.Client, worker: FakeWorker) -> None:
    worker.report(ready=True, rate=10.0)
    query: dict[str, Any] = {"upscale": "tiny-up", "upscale_steps": 2, "steps": 4, "n": 3, "dry_run": True}
    price = api.post("/generate", params=query).json()
    assert price["image_steps"] == 3 * 4 + 3 * 2 * 4
    assert price["seconds"] == price["image_steps"] / 10
    assert price["images"] == 3


@pytest.mark.parametrize(
    ("kind", "query", "parameter", "detail"),
    [
        ("upscale", {"model": "tiny"}, "model", "Input should be a model that draws from an image: tiny-up"),
        ("upscale", {"augmentation": 0.7}, "augmentation", "Input should be at most 0.5"),
        ("upscale", {"upscale": "tiny-up"}, "upscale", "This is not a parameter of this request"),
        ("generate", {"upscale": "tiny"}, "upscale", "Input should be a model that draws from an image: tiny-up"),
        ("generate", {"upscale": "big"}, "upscale", "Input should be one of"),
        ("generate", {"upscale": "tiny-up", "upscale_steps": 1001}, "upscale_steps", ""),
        ("generate", {"upscale": "tiny-up", "trace": "last"}, "trace", "Input should be omitted with upscale"),
        ("generate", {"upscale_steps": 3}, "upscale_steps", "This needs upscale"),
    ],
)
def test_what_cannot_run_is_refused_with_the_parameter(
    api: httpx.Client, kind: str, query: dict[str, Any], parameter: str, detail: str
) -> None:
    (error,) = errors(post(api, kind, **query))
    assert error["parameter"] == parameter
    assert detail in error["detail"]


def test_a_cascade_is_refused_where_no_worker_can_run_its_second_stage(api: httpx.Client, worker: FakeWorker) -> None:
    worker.report(ready=True, rate=10.0)
    worker.report(ready=False, reason="it is torn", name="other", of="tiny-up")
    assert post(api, "generate").status_code == 202
    answer = post(api, "generate", upscale="tiny-up")
    assert answer.status_code == 503
    assert "tiny-up: it is torn" in answer.text
