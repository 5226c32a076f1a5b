"""Arrays as answers, and what a job keeps on its way."""

from __future__ import annotations

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
from difuso.client import InvalidRequest
from difuso.errors import UserError
from tests.pictures import saved
from tests.serving import Difuso

pytestmark = pytest.mark.timeout(180)

SIZE, STEPS = 16, 4
NPZ = {"Accept": "application/x-npz"}
A = saved(Image.radial_gradient("L").resize((SIZE, SIZE)).convert("RGB"), "PNG")
COMMON = f"steps={STEPS}&seed=7"
# A job of each kind of answer: its query, its parts, and the numbers of images drawn and answered.
KINDS: dict[str, tuple[str, dict[str, bytes], int, int]] = {
    "generate": (f"n=3&{COMMON}", {}, 3, 3),
    "denoise": (f"sigma=40&n=2&average=true&sampler=ddpm&{COMMON}", {"image": A}, 2, 1),
}
TRACE = "trace=1&trace=last&trace=3"
KEPT = (1, 3, STEPS)


def post(api: httpx.Client, kind: str, query: str, **headers: str) -> httpx.Response:
    return api.post(f"/{kind}?{query}", files=KINDS[kind][1] or None, headers=headers).raise_for_status()


def arrays_of(body: bytes) -> dict[str, np.ndarray[Any, Any]]:
    with np.load(io.BytesIO(body)) as content:
        return dict(content)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_answers_with_arrays_and_what_it_kept(api: httpx.Client, kind: str) -> None:
    query, _, drawn, answered = KINDS[kind]
    answer = post(api, kind, f"{query}&{TRACE}", **NPZ)
    assert answer.headers["Content-Type"] == "application/x-npz"
    job = f"/jobs/{answer.headers['X-Job-Id']}"
    assert answer.headers["Content-Disposition"].endswith('.npz"')
    found = arrays_of(answer.content)
    assert [*found] == ["arr_0", "timesteps", "alphas_cumprod", "x_t", "x_0"]
    pngs = [api.get(f"{job}/images/{i}").content for i in range(answered)]
    assert found["arr_0"].tolist() == [np.asarray(Image.open(io.BytesIO(png))).tolist() for png in pngs]
    assert found["x_t"].shape == found["x_0"].shape == (drawn, len(KEPT), SIZE, SIZE, 3)
    facts = api.get(f"{job}?timesteps=true").json()
    assert facts["trace"] == [*KEPT]
    assert found["timesteps"].tolist() == [*(facts["timesteps"][call] for call in KEPT[:-1]), -1]
    assert (np.diff(found["alphas_cumprod"]) > 0).all()
    last = found["x_t"][:, -1].mean(axis=0, keepdims=True) if drawn > answered else found["x_t"][:, -1]
    assert np.array_equal(((last + 1) * 127.5).round().clip(0, 255), found["arr_0"])
    calm = post(api, kind, query)
    traced = api.get(f"{job}/image")
    assert traced.content == calm.content
    assert traced.headers["ETag"] == calm.headers["ETag"]
    assert "trace" not in api.get(calm.headers["Content-Location"].removesuffix("/image")).json()
    assert arrays_of(api.get(calm.headers["Content-Location"], headers=NPZ).content).keys() == {"arr_0"}


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("trace=first", "trace"),
        (f"{COMMON}&trace=5", "trace: Input should name calls 1 to 4, the steps of this run"),
        ("steps=65&trace=all", "trace: Input should name at most 64 calls with n=1, not 65"),
        ("&".join(f"trace={call}" for call in range(1, 66)), "trace"),
    ],
)
def test_what_cannot_be_kept_is_refused(api: httpx.Client, query: str, detail: str) -> None:
    answer = api.post(f"/generate?{query}")
    assert answer.status_code == 422
    assert answer.json()["type"] == "/problems/invalid-request"
    assert answer.json()["errors"][0]["parameter"] == "trace"
    assert detail in answer.json()["detail"]


def test_the_client_has_what_was_kept_as_arrays(difuso: Difuso) -> None:
    with Client(difuso.url) as client:
        result = client.generate(steps=2, trace="last")
        assert client.job(result.facts["id"]).images().trace["x_t"].shape == (1, 1, SIZE, SIZE, 3)
        assert client.generate(steps=2).trace == {}
        with pytest.raises(InvalidRequest, match="trace: Input should name calls 1 to 2"):
            client.generate(steps=2, trace=3)


@pytest.fixture
def picture(tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(models_dir))
    (tmp_path / "a.png").write_bytes(A)
    return str(tmp_path / "a.png")


@pytest.mark.parametrize("place", ["here", "on a server"])
def test_mistakes_of_a_command_are_explained(difuso: Difuso, tmp_path: Path, picture: str, place: str) -> None:
    where = [] if place == "here" else ["--server", difuso.url]
    there = tmp_path / "there.npz"
    there.write_bytes(b"mine")
    out = str(tmp_path / "new.npz")
    for arguments, message in (
        (["sample", "--trace", "last", "--out", str(tmp_path / "folder")], "--trace needs --out FILE.npz"),
        (["denoise", picture, "--trace", "last"], "--trace needs --out FILE.npz"),
        (["sample", "--trace", "last", "-n", "65", "--out", out], "-n must be at most 64, not 65, with --trace"),
        (
            ["sample", "--trace", "last", "--label", "all", "--out", out],
            "label: Input should be omitted: tiny has no classes",
        ),
        (["sample", "--trace", "first", "--out", out], "--trace: "),
        (["sample", "--trace", "9", "--steps", "4", "--out", out], "trace: Input should name calls 1 to 4"),
        (["sample", "--trace", "last", "--out", str(there)], "there.npz exists: delete it, or name another file"),
        (["restore", "colorize", picture, "--out", str(there)], "there.npz exists: delete it, or name another file"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            CliRunner().invoke(cli.app, [*arguments, *where], catch_exceptions=False)
    assert there.read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "there.npz"}
