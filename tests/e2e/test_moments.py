"""What a job keeps on its way, over HTTP: its trace as arrays, and the films of its images."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from difuso import Client, cli
from difuso.errors import UserError
from difuso.jobs.moments import film_calls
from tests.pictures import saved
from tests.serving import Difuso

pytestmark = pytest.mark.timeout(180)

SIZE, STEPS, KEPT = 16, 4, (1, 3, 4)
NPZ = {"Accept": "application/x-npz"}
SENT = saved(Image.radial_gradient("L").resize((SIZE, SIZE)).convert("RGB"), "PNG")
AVERAGE = f"denoise?sigma=40&n=2&average=true&sampler=ddpm&steps={STEPS}&seed=7"  # draws two images, answers one
# How many images a request has, and how many moments are in the film of each.
FILMS = {"generate?n=2&steps=14": (2, 12), "generate?steps=4&upscale=tiny-up&upscale_steps=2": (1, 4), AVERAGE: (1, 4)}


def post(api: httpx.Client, request: str, **headers: str) -> httpx.Response:
    files = {"image": SENT} if request.startswith("denoise") else None
    return api.post(f"/{request}", files=files, headers=headers).raise_for_status()


def arrays_of(body: bytes) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(io.BytesIO(body)) as content:
        return dict(content)


def test_a_traced_job_has_arrays_of_what_it_kept_and_the_image_of_any_other(api: httpx.Client) -> None:
    answer = post(api, f"{AVERAGE}&trace=1&trace=last&trace=3", **NPZ)
    assert answer.headers["Content-Type"] == "application/x-npz"
    job = f"/jobs/{answer.headers['X-Job-Id']}"
    assert answer.headers["Content-Disposition"].endswith('.npz"')
    found = arrays_of(answer.content)
    assert [*found] == ["arr_0", "timesteps", "alphas_cumprod", "x_t", "x_0", "x_start"]
    png = api.get(f"{job}/images/0").content
    assert np.array_equal(found["arr_0"][0], np.asarray(Image.open(io.BytesIO(png))))
    assert found["x_t"].shape == found["x_0"].shape == (2, len(KEPT), SIZE, SIZE, 3)
    facts = api.get(f"{job}?timesteps=true").json()
    assert facts["trace"] == [*KEPT]
    assert found["timesteps"].tolist() == [*(facts["timesteps"][call] for call in KEPT[:-1]), -1]
    assert (np.diff(found["alphas_cumprod"]) > 0).all()
    assert np.array_equal(((found["x_t"][:, -1].mean(axis=0) + 1) * 127.5).round().clip(0, 255), found["arr_0"][0])
    calm, traced = post(api, AVERAGE), api.get(f"{job}/image")
    assert traced.content == calm.content
    assert traced.headers["ETag"] == calm.headers["ETag"]
    assert "trace" not in api.get(calm.headers["Content-Location"].removesuffix("/image")).json()
    assert arrays_of(api.get(calm.headers["Content-Location"], headers=NPZ).content).keys() == {"arr_0"}


def npy(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_the_start_of_a_trace_draws_its_images_again_everywhere(
    difuso: Difuso, api: httpx.Client, small_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a part, as base64, by the client and by the command here and there; and a picture of it can be verified."""
    run = f"model=tiny&sampler=ddpm&steps={STEPS}&trace=all"
    whole = arrays_of(post(api, f"generate?{run}&seed=7&n=2", **NPZ).content)
    noise = whole["x_start"]
    sent = api.post(f"/generate?{run}&seed=7", files={"noise": npy(noise)}, headers=NPZ).raise_for_status()
    found = arrays_of(sent.content)
    assert all(np.array_equal(array, found[name]) for name, array in whole.items())
    facts = api.get(f"/jobs/{sent.headers['X-Job-Id']}").json()
    assert [each["sha256"] for each in facts["pictures"]] == [hashlib.sha256(npy(each)).hexdigest() for each in noise]
    body = {"model": "tiny", "sampler": "ddpm", "steps": STEPS, "seed": 8}
    encoded = base64.b64encode(npy(noise[1].astype(np.float64))).decode()
    one = api.post("/generate", json={**body, "noise": encoded}, headers=NPZ).raise_for_status()
    assert np.array_equal(arrays_of(one.content)["arr_0"][0], whole["arr_0"][1])

    options: dict[str, Any] = {"model": "tiny", "sampler": "ddpm", "steps": STEPS, "seed": 7}
    with Client(difuso.url) as client:
        made = client.generate(**options, noise=noise)
        assert client.price("generate", **options, noise=noise).images == 2
        assert np.array_equal(client.submit("generate", noise, **options).images().pixels, whole["arr_0"])
    assert np.array_equal(made.pixels, whole["arr_0"])

    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(small_models))
    monkeypatch.setenv("DIFUSO_DEVICE", "cpu")
    monkeypatch.chdir(tmp_path)
    Path("noise.npy").write_bytes(npy(noise))
    command = ["sample", "--model", "tiny", "--sampler", "ddpm", "--steps", str(STEPS), "--seed", "7"]
    for place, where in (("here", []), ("there", ["--server", difuso.url])):
        CliRunner().invoke(cli.app, [*command, "--noise", "noise.npy", *where, "--out", place], catch_exceptions=False)
        assert [Path(place, f"tiny-{seed}.png").read_bytes() for seed in (7, 8)] == [*made.pngs]
    CliRunner().invoke(cli.app, [*command, "--noise", "noise.npy", "--out", "all.npz"], catch_exceptions=False)
    assert np.array_equal(arrays_of(Path("all.npz").read_bytes())["arr_0"], whole["arr_0"])
    verify = ["verify", "here/tiny-8.png"]
    assert CliRunner().invoke(cli.app, [*verify, "--upload", "noise.npy"], catch_exceptions=False).exit_code == 0
    with pytest.raises(UserError, match="--upload is needed"):
        CliRunner().invoke(cli.app, verify, catch_exceptions=False)


def test_noise_is_a_part_of_what_a_key_stands_for_and_is_checked(api: httpx.Client) -> None:
    query, headers = "/generate?model=tiny&steps=2&seed=7", {"Prefer": "respond-async", "Idempotency-Key": "noisy"}
    noise = np.zeros((SIZE, SIZE, 3), np.float32)
    first = api.post(query, files={"noise": npy(noise)}, headers=headers)
    again = api.post(query, files={"noise": npy(noise[None])}, headers=headers)
    assert first.headers["Location"] == again.headers["Location"]
    for other in ({"noise": npy(noise + 1)}, None):
        assert api.post(query, files=other, headers=headers).json()["type"].endswith("idempotency-conflict")
    for wrong, said in ((noise * np.nan, "finite"), (noise + 300, "unit variance"), (noise[1:], "shape")):
        (error,) = api.post(f"{query}&dry_run=true", files={"noise": npy(wrong)}).json()["errors"]
        assert error["part"] == "noise"
        assert said in error["detail"]
    cascade = api.post(
        "/generate?model=tiny&steps=2&seed=7&upscale=tiny-up&upscale_steps=2", files={"noise": npy(noise)}
    )
    assert Image.open(io.BytesIO(cascade.content)).size == (2 * SIZE, 2 * SIZE)
    assert api.post("/upscale?model=tiny-up", files={"image": SENT, "noise": npy(noise)}).status_code == 422


def test_mistakes_of_a_command_are_explained(
    difuso: Difuso, small_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(small_models))
    there = tmp_path / "there.npz"
    there.write_bytes(b"mine")
    out = str(tmp_path / "new.npz")
    for arguments, message in (
        (["last", "--out", str(tmp_path / "folder")], "--trace needs --out FILE.npz"),
        (["last", "-n", "65", "--out", out], "-n must be at most 64, not 65, with --trace"),
        (["9", "--steps", "4", "--out", out], "trace: Input should name calls 1 to 4"),
        (["last", "--out", str(there)], "there.npz exists: delete it, or name another file"),
    ):
        for where in ([], ["--server", difuso.url]):
            command = ["sample", "--model", "tiny", *where, "--trace", *arguments]
            with pytest.raises(UserError, match=re.escape(message)):
                CliRunner().invoke(cli.app, command, catch_exceptions=False)
    assert there.read_bytes() == b"mine"
    assert [*tmp_path.iterdir()] == [there]


@pytest.mark.parametrize("request_", FILMS)
def test_every_image_has_a_film(api: httpx.Client, request_: str) -> None:
    images, moments = FILMS[request_]
    job = f"/jobs/{post(api, request_).headers['X-Job-Id']}"
    picture = Image.open(io.BytesIO(api.get(f"{job}/images/0").content))
    for index in range(images):
        answer = api.get(f"{job}/images/{index}/film")
        assert answer.headers["Content-Type"] == "image/webp"
        strip = Image.open(io.BytesIO(answer.content))
        assert strip.width * picture.height == moments * strip.height * picture.width
    assert api.get(f"{job}/images/{images}/film").status_code == 404
    assert api.delete(f"{job}/images").status_code == 204
    assert api.get(f"{job}/images/0/film").status_code == 410


def test_an_animation_ends_with_the_image(api: httpx.Client) -> None:
    path = f"/jobs/{post(api, 'generate?steps=6&seed=3').headers['X-Job-Id']}/images/0"
    picture = Image.open(io.BytesIO(api.get(path).content))
    factor = 256 // picture.width
    for form, off in (("apng", 0), ("gif", 8)):  # a GIF has 256 colours
        answer = api.get(f"{path}/film", headers={"Accept": f"image/{form}"})
        assert answer.headers["Content-Type"] == f"image/{form}"
        film = Image.open(io.BytesIO(answer.content))
        assert film.n_frames == len(film_calls(6)) + 1  # type: ignore[attr-defined]
        film.seek(len(film_calls(6)))
        exact = np.asarray(picture).repeat(factor, 0).repeat(factor, 1)
        assert abs(np.asarray(film.convert("RGB")).astype(int) - exact).mean() <= off
        known = {"Accept": f"image/{form}", "If-None-Match": answer.headers["ETag"]}
        assert api.get(f"{path}/film", headers=known).status_code == 304
    refused = api.get(f"{path}/film", headers={"Accept": "video/webm"})
    assert refused.status_code == 406
    assert "image/webp" in refused.json()["detail"]
