"""Damaged and hostile models are refused while others are served, and jobs share the calls of their network."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from difuso.jobs.model_folders import model_folders
from difuso.model.checkpoint import SUMS, WEIGHTS, file_sha256
from tests.hostile_models import ATTACKS, plant
from tests.serving import ENVIRONMENT, free_port, running
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

STEPS = [500, 500, 500, 450, 400, 350, 300, 250, 200, 150, 100, 50]
SLOTS = 8


@pytest.fixture(scope="module")
def models(models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny` and copies that are damaged, each in another way, by accident or on purpose."""
    folder = tmp_path_factory.mktemp("served")
    for name in ("tiny", "truncated", "flipped", "nan", "pickled", "edited"):
        shutil.copytree(models_dir / "tiny", folder / name)
    weights = (folder / "truncated" / WEIGHTS).read_bytes()
    (folder / "truncated" / WEIGHTS).write_bytes(weights[: len(weights) // 2])
    (folder / "flipped" / WEIGHTS).write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    (folder / "nan" / WEIGHTS).write_bytes(weights[:-2] + b"\x00\x7e")  # float16 NaN, with a sum that agrees
    sums = (folder / "nan" / SUMS).read_text().replace(file_sha256(folder / "tiny" / WEIGHTS), "{}")
    (folder / "nan" / SUMS).write_text(sums.format(file_sha256(folder / "nan" / WEIGHTS)))
    (folder / "pickled" / WEIGHTS).unlink()
    (folder / "pickled" / "model.pt").write_bytes(pickle.dumps({}))
    config = json.loads((folder / "edited" / "config.json").read_text())
    (folder / "edited" / "config.json").write_text(json.dumps(config | {"prediction": "eps"}))
    for name in list(ATTACKS)[::2]:
        plant(folder / "tiny", folder, name)
    return folder


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def api(
    models: Path, metrics_port: int, redis_server: object, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[httpx.Client]:
    """A client of a running difuso."""
    ours = {"DIFUSO_MODELS_DIR": str(models), "DIFUSO_METRICS_PORT": str(metrics_port), "DIFUSO_SLOTS": str(SLOTS)}
    with (
        running(tmp_path_factory.mktemp("run"), ENVIRONMENT | ours) as difuso,
        httpx.Client(base_url=difuso.url, timeout=60, params={"model": "tiny"}) as client,
    ):
        yield client


def images(api: httpx.Client, **params: Any) -> list[bytes]:
    """The pictures of one request."""
    answer = api.post("/generate", params={"model": "tiny", **params}, headers={"Accept": "application/json"})
    job = answer.raise_for_status().json()
    found = [api.get(f"/jobs/{job['id']}/images/{i}") for i in range(params.get("n", 1))]
    return [response.raise_for_status().content for response in found]


def succeeded(api: httpx.Client, address: str) -> bool:
    return bool(api.get(address).json()["state"] == "succeeded")


def network_calls(port: int) -> int:
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("difuso_denoise_step_seconds_count")]
    return int(sum(float(line.split()[-1]) for line in lines))


def test_twelve_jobs_at_once_share_their_network_calls(api: httpx.Client, metrics_port: int) -> None:
    """The longest come first, so that all of them run from the start and the short ones fill what becomes free."""
    before = network_calls(metrics_port)
    prefer = {"Prefer": "respond-async"}
    jobs = [api.post("/generate", params={"steps": steps}, headers=prefer).json() for steps in STEPS]
    for job in jobs:
        address = f"/jobs/{job['id']}"
        wait_until(partial(succeeded, api, address), timeout=60, description="the job has succeeded")
    calls = network_calls(metrics_port) - before
    assert max(STEPS) <= calls <= 1.5 * max(max(STEPS), sum(STEPS) / SLOTS)


def test_damaged_models_are_refused_by_name_and_reason(api: httpx.Client, models: Path) -> None:
    listed = {model["name"]: model for model in api.get("/models").json()["models"]}
    assert listed["tiny"]["state"] == "ready"
    reasons = {name: model["reason"] for name, model in listed.items() if model["state"] == "refused"}
    assert set(reasons) == {folder.name for folder in model_folders(models)} - {"tiny"}
    assert "does not match its SHA-256" in reasons["truncated"]
    assert "does not match its SHA-256" in reasons["flipped"]
    assert "NaN" in reasons["nan"]
    assert "pickle" in reasons["pickled"]
    assert "config.json does not match" in reasons["edited"]
    answer = api.post("/generate", params={"model": "flipped"})
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"


def test_folders_made_to_do_harm_stop_nobody(api: httpx.Client, models: Path) -> None:
    """Half of them lay there at the start, the others come while difuso runs."""
    for name in list(ATTACKS)[1::2]:
        plant(models / "tiny", models, name)

    def refused() -> dict[str, str]:
        listed = api.get("/models").raise_for_status().json()["models"]
        return {model["name"]: model["reason"] for model in listed if model["state"] == "refused"}

    wait_until(lambda: ATTACKS.keys() <= refused().keys(), timeout=40, description="all are refused")
    reasons = refused()
    for name, attack in ATTACKS.items():
        assert (attack.front_end or attack.reason) in reasons[name]
    assert len(images(api, steps=5)) == 1
