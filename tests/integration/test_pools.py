"""Models with workers of their own: each worker draws only its own models, and those without workers wait for one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from difuso.app.settings import ApiSettings
from difuso.jobs.contract import FailureCode, JobState
from difuso.jobs.redis import keys
from tests.app_server import running
from tests.waiting import wait_until
from tests.worker_stack import Stack

pytestmark = pytest.mark.timeout(120)
ASYNC = {"Prefer": "respond-async"}


@pytest.fixture(scope="module")
def two(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder of the models `a` and `b`."""
    folder = tmp_path_factory.mktemp("two")
    for name in "ab":
        shutil.copytree(models_dir / "tiny", folder / name)
    return folder


@pytest.fixture
def fleet(redis_url: str, two: Path, tmp_path: Path) -> Iterator[Stack]:
    with closing(Stack(redis_url, two, tmp_path)) as stack:
        yield stack


@pytest.fixture
def api(redis_url: str, two: Path, tmp_path: Path) -> Iterator[httpx.Client]:
    """Yields a client of a front end that knows of workers of `a`."""
    store = str(tmp_path / "store")
    settings = ApiSettings(redis_url=redis_url, models_dir=two, store_url=store, pools=frozenset("a"), max_jobs=3)
    with running(settings) as client:
        yield client


def serving(stack: Stack) -> list[list[str]]:
    """Returns what each live worker reports on."""
    return sorted(sorted(each.name for each in worker.models) for worker in stack.queue.workers())


def told(api: httpx.Client) -> tuple[str, float | None]:
    """Returns the state of the model `a`, and its seconds."""
    model = api.get("/models/a").json()
    return model["state"], model.get("load_seconds")


def price(api: httpx.Client, **more: str) -> dict[str, Any]:
    answer = api.post("/generate", params={"model": "a", "steps": 5, "dry_run": "true", **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_each_worker_draws_the_jobs_of_its_own_models_only(fleet: Stack) -> None:
    workers = {name: fleet.start_worker(models=name) for name in "ab"}
    wait_until(lambda: serving(fleet) == [["a"], ["b"]], 60, "both serve their own model")
    jobs = [(name, fleet.submit(model=name, steps=2, seed=seed)) for seed in range(8) for name in "ab"]
    fleet.finish([job for _, job in jobs], 60)
    for name, job in jobs:
        drawn_by: Any = fleet.client.hget(f"rq:job:{job}", "worker_name")
        assert drawn_by.startswith(b"difuso-%d-" % workers[name].pid)


def test_a_job_of_a_model_whose_workers_sleep_waits_for_one(fleet: Stack, api: httpx.Client) -> None:
    """A worker of other models, which waits a second only for versions of its own, lives all the time."""
    fleet.start_worker(pools="a", version_wait=1)
    wait_until(lambda: serving(fleet) == [["b"]], 60, "the other worker serves what is left")
    assert told(api) == ("asleep", None)
    found = price(api, version=fleet.model("a").version)
    assert (found["asleep"], found["seconds"], found.get("load_seconds")) == (True, None, None)
    assert not fleet.client.exists(keys.asked("a")), "a price asks for nothing"
    assert 'difuso_model_asleep{model="a"} 1.0' in api.get("/metrics").text

    pinned: dict[str, str | int] = {"model": "a", "steps": 2, "version": fleet.model("a").version}
    answers = [api.post("/generate", params=pinned | {"seed": seed}, headers=ASYNC) for seed in range(4)]
    assert [each.status_code for each in answers] == [202, 202, 202, 429], "as many as may wait for a model"
    waiting = [each.headers["X-Job-Id"] for each in answers[:3]]
    metrics = api.get("/metrics").text
    assert 'difuso_model_asleep{model="a"} 0.0' in metrics
    assert 'difuso_backlog_image_steps{model="a"} 6.0' in metrics, "by which an autoscaler starts a worker"
    assert 'difuso_backlog_seconds{model="a"}' not in metrics
    gone = fleet.submit(model="b", versions=("f" * 64,), pinned=True)
    wait_until(lambda: fleet.states([gone]) == {JobState.FAILED}, 60, "the worker has given up a version of its own")
    assert fleet.queue.status(gone).failure is FailureCode.VERSION_GONE
    assert fleet.states(waiting) == {JobState.QUEUED}

    started = fleet.start_worker(models="a")
    fleet.finish(waiting, 60)
    assert told(api)[0] == "ready"
    assert "asleep" not in price(api)
    started.terminate()
    wait_until(lambda: told(api)[0] == "asleep", 30, "it sleeps again")
    seconds = told(api)[1]
    assert seconds is not None
    assert 0 < seconds < 60
    assert price(api)["load_seconds"] == seconds, "what the start took"
