"""A sampler of another package is served like ours: priced without torch, resumed after kill -9, and verified."""

import io
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from difuso.app.settings import ApiSettings
from difuso.commands.verifying import verify_image
from difuso.jobs.contract import JobState
from difuso.worker.settings import WorkerSettings
from tests.app_server import running
from tests.waiting import wait_until
from tests.worker_stack import RECOVERY_SECONDS, Stack
from tests.worker_stack import running as is_running

WAIT = {"Prefer": "wait=60", "Accept": "image/png"}


def pixels(png: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(png)))


def post(api: httpx.Client, headers: dict[str, str], **params: Any) -> httpx.Response:
    sent: dict[str, Any] = {"spacing": "trailing", "seed": 3} | params
    return api.post("/generate", params=sent, headers=headers)


@pytest.mark.timeout(180)
@pytest.mark.slow
def test_a_plugged_in_sampler_draws_resumes_and_is_verified(
    redis_url: str, models_dir: Path, stack: Stack, tmp_path: Path, plugin: str
) -> None:
    """The plug-in's `mine` is DDIM, written by somebody else: its images are those of ours.

    A worker that lacks the plug-in leaves its jobs to the other.
    """
    theirs, store = f"{plugin}:mine", str(tmp_path / "store")
    found = f"import sys; sys.path.append({str(Path(__file__).parents[1])!r})"
    worker = stack.start_worker(found, plugins=plugin)
    settings = ApiSettings(redis_url=redis_url, models_dir=models_dir, store_url=store, plugins=frozenset([plugin]))
    with running(settings) as api:
        wait_until(lambda: post(api, WAIT, sampler="ddim", steps=2).status_code == 200, 60, "a worker draws")
        assert post(api, {}, sampler=theirs, steps=20, n=2, dry_run="true").json()["image_steps"] == 40
        ours, png = (post(api, WAIT, sampler=name, steps=20).content for name in ("ddim", theirs))
        assert np.array_equal(pixels(png), pixels(ours))
        refused = post(api, WAIT, sampler=f"{plugin}:picky", steps=2)
        assert (refused.status_code, refused.json()["errors"][0]["parameter"]) == (422, "steps")
        stack.start_worker()
        wait_until(lambda: len(stack.queue.workers()) == 2, 60, "a worker without the plug-in is ready")
        assert {post(api, WAIT, sampler=theirs, steps=5, seed=seed).status_code for seed in range(8)} == {200}
        assert "antigravity" in post(api, WAIT, sampler="antigravity:fly").json()["errors"][0]["detail"]

        job_id = post(api, {"Prefer": "respond-async"}, sampler=theirs, steps=400).headers["X-Job-Id"]
        wait_until(lambda: is_running(stack, [job_id]), 20, "the job runs")
        worker.kill()
        stack.start_worker(found, plugins=plugin)
        wait_until(lambda: stack.states([job_id]) == {JobState.SUCCEEDED}, RECOVERY_SECONDS + 60, "the job is done")
        again = post(api, WAIT, sampler="ddim", steps=400).content
        assert np.array_equal(pixels(stack.images(job_id)[0]), pixels(again))
    (tmp_path / "picture.png").write_bytes(png)
    assert verify_image(tmp_path / "picture.png", (), WorkerSettings(models_dir=models_dir, device="cpu"))
