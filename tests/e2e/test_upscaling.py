"""/upscale and cascades over HTTP: one `difuso serve`, real images; and workers that die between both stages."""

from __future__ import annotations

import io
import json
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from difuso.jobs.cascade import Enlarging, enlarging_seed
from difuso.jobs.kinds.generate import Generation
from tests.pictures import saved
from tests.waiting import wait_until
from tests.worker_stack import RECOVERY_SECONDS, Stack

PICTURE = saved(Image.linear_gradient("L").resize((16, 16)).convert("RGB"), "PNG")
ZIP = {"Accept": "application/zip"}


def upscaled(api: httpx.Client, png: bytes = PICTURE, **query: Any) -> bytes:
    return api.post("/upscale", params=query, files={"image": png}).raise_for_status().content


def in_zip(answer: httpx.Response) -> list[bytes]:
    with zipfile.ZipFile(io.BytesIO(answer.raise_for_status().content)) as archive:
        return [archive.read(name) for name in sorted(archive.namelist()) if name.endswith(".png")]


def pixels(png: bytes) -> tuple[tuple[int, int], bytes]:
    image = Image.open(io.BytesIO(png))
    return image.size, image.tobytes()


def test_an_image_is_enlarged_and_says_how(api: httpx.Client) -> None:
    png = upscaled(api, seed=7)
    made = Image.open(io.BytesIO(png))
    assert made.size == (32, 32)
    facts = json.loads(made.info["difuso"])
    assert (facts["kind"], facts["model"], facts["seed"], facts["augmentation"]) == ("upscale", "tiny-up", 7, 0.1)
    assert upscaled(api, seed=7) == png
    other = saved(Image.linear_gradient("L").resize((16, 16)).rotate(90).convert("RGB"), "PNG")
    assert upscaled(api, other, seed=7) != png
    assert upscaled(api, seed=7, augmentation=0) != png


@pytest.mark.slow
def test_bytes_are_equal_alone_and_in_company(api: httpx.Client) -> None:
    """Jobs of other lengths, kinds and levels share the batches."""
    alone = [upscaled(api, seed=seed, steps=20, sampler="ddpm") for seed in (1, 2)]
    cascade = api.post("/generate?upscale=tiny-up&seed=5&steps=20&upscale_steps=9").raise_for_status().content
    with ThreadPoolExecutor(6) as pool:
        first, second = (
            pool.submit(api.post, "/upscale?seed=1&n=2&steps=20&sampler=ddpm", files={"image": PICTURE}, headers=ZIP),
            pool.submit(api.post, "/generate?upscale=tiny-up&seed=4&n=3&steps=20&upscale_steps=9", headers=ZIP),
        )
        for seed in range(2):
            pool.submit(api.post, f"/generate?steps=30&n=3&seed={seed}")
            pool.submit(upscaled, api, seed=seed, steps=25, augmentation=0.5)
    assert in_zip(first.result()) == alone
    assert in_zip(second.result())[1] == cascade


def test_a_cascade_has_the_pixels_of_two_requests(api: httpx.Client) -> None:
    whole = api.post("/generate?upscale=tiny-up&seed=3&steps=6").raise_for_status().content
    small = api.post("/generate?seed=3&steps=6").raise_for_status().content
    assert pixels(whole) == pixels(upscaled(api, small, seed=enlarging_seed(3)))
    assert pixels(whole)[0] == (32, 32)


@pytest.mark.timeout(400)
@pytest.mark.slow
def test_kill_9_in_either_stage_and_a_hand_over_change_no_byte(
    redis_url: str, cascade_models_dir: Path, tmp_path: Path
) -> None:
    stage = Enlarging(
        model="tiny-up",
        steps=1000,  # longer than a worker that is to stop waits for
        sampler="ddpm",
        spacing="trailing",
        eta=0.0,
        variance="fixed_small",
        clip="static",
        augmentation=0.2,
        weight=4,
    )
    first_stage = 4 * 300
    with closing(Stack(redis_url, cascade_models_dir, tmp_path)) as stack:

        def submit() -> str:
            return stack.submit(Generation(upscale=stage), n=4, steps=300)

        def resumed(job_id: str) -> int:
            return stack.queue.status(job_id).progress.resumed_at

        worker = stack.start_worker()
        calm = submit()
        stack.finish([calm], 150)
        job_id = submit()
        wait_until(lambda: stack.store.snapshot(job_id) is not None, 40, "a snapshot was saved")
        worker.kill()
        second = stack.start_worker()
        wait_until(lambda: resumed(job_id) > 0, RECOVERY_SECONDS, "the job goes on")
        wait_until(
            lambda: stack.queue.status(job_id).progress.image_steps > first_stage, 60, "the second stage has begun"
        )
        second.terminate()  # hands the job over
        assert second.wait(15) == 0
        third = stack.start_worker()
        wait_until(lambda: resumed(job_id) > first_stage, RECOVERY_SECONDS, "the second stage goes on")
        third.kill()
        stack.start_worker()
        stack.finish([job_id], RECOVERY_SECONDS + 60)
        assert stack.images(job_id) == stack.images(calm)
        assert stack.queue.status(job_id).progress.image_steps == first_stage + 4 * 1000 * 4
