"""Films over HTTP: of every kind of job, as a strip and as animations, and gone with the images."""

import io

import httpx
import numpy as np
import pytest
from PIL import Image

from difuso.jobs.moments import film_calls
from tests.pictures import saved

pytestmark = pytest.mark.timeout(180)

SENT = saved(Image.radial_gradient("L").resize((16, 16)).convert("RGB"), "PNG")
KINDS = {
    "generate?n=2&steps=14": ({}, 2, 12),
    "generate?n=2&steps=4&upscale=tiny-up&upscale_steps=2": ({}, 2, 4),
    "interpolate?seed=3&seed=9&lambda=0.5&steps=3": ({}, 1, 3),
    "denoise?sigma=40&n=2&average=true&steps=3": ({"image": SENT}, 1, 3),
    "restore?task=superres&steps=3": ({"image": SENT}, 1, 3),
    "generate?model=grey&steps=5": ({}, 1, 5),
}


def made(api: httpx.Client, request: str, **files: bytes) -> str:
    answer = api.post(f"/{request}", files=files or None, headers={"Accept": "application/json"}).raise_for_status()
    return str(answer.headers["X-Job-Id"])


@pytest.mark.parametrize("request_", KINDS)
def test_every_kind_of_job_has_films(api: httpx.Client, request_: str) -> None:
    files, images, moments = KINDS[request_]
    job_id = made(api, request_, **files)
    picture = Image.open(io.BytesIO(api.get(f"/jobs/{job_id}/images/0").content))
    for index in range(images):
        answer = api.get(f"/jobs/{job_id}/images/{index}/film")
        assert answer.headers["Content-Type"] == "image/webp"
        strip = Image.open(io.BytesIO(answer.content))
        assert strip.width * picture.height == moments * strip.height * picture.width
    assert api.get(f"/jobs/{job_id}/images/{images}/film").status_code == 404


def test_an_animation_ends_with_the_image(api: httpx.Client) -> None:
    job_id = made(api, "generate?steps=6&seed=3")
    path = f"/jobs/{job_id}/images/0"
    picture = Image.open(io.BytesIO(api.get(path).content))
    factor = 256 // picture.width
    for form in ("gif", "apng"):
        answer = api.get(f"{path}/film", headers={"Accept": f"image/{form}"})
        assert answer.headers["Content-Type"] == f"image/{form}"
        film = Image.open(io.BytesIO(answer.content))
        assert film.n_frames == len(film_calls(6)) + 1  # type: ignore[attr-defined]
        film.seek(len(film_calls(6)))
        end = np.asarray(film.convert("RGB")).astype(int)
        exact = np.asarray(picture).repeat(factor, 0).repeat(factor, 1)
        if form == "apng":
            assert (end == exact).all()
        else:  # which has 256 colours
            assert abs(end - exact).mean() < 8
        known = {"Accept": f"image/{form}", "If-None-Match": answer.headers["ETag"]}
        assert api.get(f"{path}/film", headers=known).status_code == 304
    refused = api.get(f"{path}/film", headers={"Accept": "video/webm"})
    assert refused.status_code == 406
    assert "image/webp" in refused.json()["detail"]


def test_a_film_goes_with_its_images(api: httpx.Client) -> None:
    job_id = made(api, "generate?steps=2")
    assert api.delete(f"/jobs/{job_id}/images").status_code == 204
    assert api.get(f"/jobs/{job_id}/images/0/film").status_code == 410


def test_images_of_one_call_or_of_four_channels_have_none(api: httpx.Client) -> None:
    for request in ("generate?steps=1", "generate?model=four&steps=3"):
        assert api.get(f"/jobs/{made(api, request)}/images/0/film").status_code == 404
