"""Models of an address: `difuso push` puts them into a bucket, and a worker and a front end serve them from there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import s3fs
from typer.testing import CliRunner

from difuso import cli
from difuso.app.settings import ApiSettings
from difuso.model.checkpoint import load_checkpoint, save_checkpoint
from tests.app_server import running
from tests.forking import Command
from tests.waiting import wait_until

PNG = {"Accept": "image/png", "Prefer": "wait=30"}

StartWorker = Callable[[str], Command]


def push(folder: Path, address: str, *words: str) -> str:
    result = CliRunner().invoke(cli.app, ["push", str(folder), address, *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


@pytest.fixture
def settings(redis_url: str, s3_url: str, tmp_path: Path) -> ApiSettings:
    return ApiSettings(
        redis_url=redis_url,
        models_dir=f"{s3_url}/models",
        store_url=str(tmp_path / "store"),
        state_dir=tmp_path / "front",
    )


@pytest.fixture
def start_worker(settings: ApiSettings, tmp_path: Path) -> Iterator[StartWorker]:
    """Starts a worker with an address of S3, and the cache of the test."""
    started: list[Command] = []

    def start(s3: str) -> Command:
        ours = {
            "REDIS_URL": settings.redis_url,
            "DIFUSO_MODELS_DIR": str(settings.models_dir),
            "DIFUSO_STORE_URL": settings.store_url,
            "DIFUSO_STATE_DIR": str(tmp_path / "worker"),
            "OMP_NUM_THREADS": "1",
            "AWS_ENDPOINT_URL": s3,
        }
        log = tmp_path / f"worker-{len(started)}.log"
        started.append(Command(["worker"], environment=os.environ | ours, folder=tmp_path, log=log))
        return started[-1]

    yield start
    for worker in started:
        worker.kill()
        worker.wait()


def served(api: httpx.Client) -> dict[str, str | None]:
    """The version of each model that some worker serves."""
    models = api.get("/models").json()["models"]
    return {each["name"]: each["version"] for each in models if each["state"] == "ready"}


def test_a_model_is_pushed_and_drawn(
    settings: ApiSettings, models_dir: Path, s3_server: str, start_worker: StartWorker
) -> None:
    assert "tiny is at" in push(models_dir / "tiny", str(settings.models_dir))
    with running(settings) as api:
        start_worker(s3_server)
        wait_until(lambda: served(api), 30, "a worker serves the model")
        assert served(api) == {"tiny": load_checkpoint(models_dir / "tiny").version}
        assert api.post("/generate?steps=2", headers=PNG).headers["Content-Type"] == "image/png"
        assert api.get("/readyz?verbose").json()["address"] == "ok"
        assert "difuso_models_address_ok 1.0" in api.get("/metrics").text


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_a_new_version_is_everywhere_in_half_a_minute_and_what_is_here_outlives_the_address(
    settings: ApiSettings, models_dir: Path, s3_server: str, start_worker: StartWorker, tmp_path: Path
) -> None:
    with running(settings) as api:
        first = start_worker(s3_server)
        assert "tiny" in push(models_dir / "tiny", str(settings.models_dir))
        wait_until(lambda: served(api), 30, "a worker that waited for a model serves it")
        tiny = load_checkpoint(models_dir / "tiny")
        tiny.network.requires_grad_(False).get_parameter("conv_out.bias").add_(0.05)
        save_checkpoint(tmp_path / "newer", tiny.config, tiny.network)
        version = load_checkpoint(tmp_path / "newer").version
        push(tmp_path / "newer", str(settings.models_dir), "--as", "tiny")
        wait_until(lambda: served(api) == {"tiny": version}, 30, "the new version is served")
        s3fs.S3FileSystem().rm(str(settings.models_dir), recursive=True)
        wait_until(lambda: api.get("/readyz?verbose").json()["address"] == "away", 30, "the front end has noticed")
        first.terminate()
        first.wait(30)
        wait_until(lambda: not served(api), 30, "nobody serves")
        start_worker("http://127.0.0.1:9")
        wait_until(lambda: served(api) == {"tiny": version}, 60, "a new worker serves what was fetched")
        assert api.post("/generate?steps=2", headers=PNG).headers["Content-Type"] == "image/png"


def test_commands_draw_with_models_of_an_address(
    s3_url: str, models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    push(models_dir / "tiny", s3_url)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIFUSO_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("DIFUSO_POOLS", "tiny")  # which only workers heed
    sample = ["sample", "--models-dir", s3_url, "--steps", "1", "--out", "pictures"]
    result = CliRunner().invoke(cli.app, sample, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert len([*Path("pictures").iterdir()]) == 1
