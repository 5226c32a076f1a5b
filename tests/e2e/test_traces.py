"""Arrays as answers, and what a job keeps on its way: over HTTP, by the client, and on the command line."""

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
GRADIENTS = Image.radial_gradient("L"), Image.linear_gradient("L")
A, B = (saved(image.resize((SIZE, SIZE)).convert("RGB"), "PNG") for image in GRADIENTS)
COMMON = f"steps={STEPS}&seed=7"
# Each kind of job: its query, its parts, and the numbers of images drawn and answered.
KINDS: dict[str, tuple[str, dict[str, bytes], int, int]] = {
    "generate": (f"n=3&{COMMON}", {}, 3, 3),
    "interpolate": (f"lambda=0.25&lambda=0.75&mode=ddim&{COMMON}", {"image_a": A, "image_b": B}, 2, 2),
    "denoise": (f"sigma=40&n=2&average=true&sampler=ddpm&{COMMON}", {"image": A}, 2, 1),
    "restore": (f"task=superres&{COMMON}", {"image": A}, 1, 1),
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
    again = post(api, kind, f"{query}&{TRACE}", **NPZ)
    assert again.headers["X-Job-Id"] != answer.headers["X-Job-Id"]
    assert again.content == answer.content
    calm = post(api, kind, query)
    traced = api.get(f"{job}/image")
    assert traced.content == calm.content
    assert traced.headers["ETag"] == calm.headers["ETag"]
    assert "trace" not in api.get(calm.headers["Content-Location"].removesuffix("/image")).json()
    assert arrays_of(api.get(calm.headers["Content-Location"], headers=NPZ).content).keys() == {"arr_0"}


def test_arrays_are_cached_as_other_formats_are(api: httpx.Client) -> None:
    answer = post(api, "generate", f"n=2&{COMMON}&trace=all", **NPZ)
    path, tag = answer.headers["Content-Location"], answer.headers["ETag"]
    assert api.get(path, headers={**NPZ, "If-None-Match": tag}).status_code == 304
    head = api.head(path, headers=NPZ)
    assert (head.status_code, head.content, head.headers["ETag"]) == (200, b"", tag)
    assert head.headers["Content-Length"] == str(len(answer.content))
    assert api.get(path).headers["Content-Type"] == "image/png"
    refused = api.get(path, headers={"Accept": "text/html"})
    assert refused.status_code == 406
    assert "application/x-npz" in refused.json()["detail"]
    api.delete(path.removesuffix("/image") + "/images").raise_for_status()
    assert api.get(path, headers=NPZ).status_code == 410


def test_an_animation_plays_what_was_kept(api: httpx.Client) -> None:
    answer = post(api, "generate", f"n=4&{COMMON}&trace=all", Accept="image/apng")
    with Image.open(io.BytesIO(answer.content)) as animation:
        assert getattr(animation, "n_frames", 1) == 2 * STEPS - 2
        sheet = Image.open(io.BytesIO(api.get(answer.headers["Content-Location"]).content))
        assert animation.size == sheet.size
        animation.seek(STEPS - 1)
        shown = np.asarray(animation.convert("RGB"), np.int16)
    kept = arrays_of(api.get(answer.headers["Content-Location"], headers=NPZ).content)
    first = ((kept["x_0"][0, -1] + 1) * 127.5).round().clip(0, 255)
    assert np.array_equal(shown[:SIZE, :SIZE], first)


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


def test_the_client_gives_the_trace_as_arrays(difuso: Difuso, api: httpx.Client) -> None:
    expected = arrays_of(post(api, "generate", f"{KINDS['generate'][0]}&{TRACE}", **NPZ).content)
    with Client(difuso.url) as client:
        result = client.generate(n=3, steps=STEPS, seed=7, trace=[1, 3, "last"])
        assert result.trace.keys() == expected.keys() - {"arr_0"}
        assert all(np.array_equal(result.trace[name], expected[name]) for name in result.trace)
        assert np.array_equal(np.stack([np.asarray(image) for image in result]), expected["arr_0"])
        assert client.job(result.facts["id"]).images().trace["x_t"].shape == (3, 3, SIZE, SIZE, 3)
        assert client.generate(steps=2, trace="last").trace["x_t"].shape == (1, 1, SIZE, SIZE, 3)
        assert client.generate(steps=2).trace == {}
        with pytest.raises(InvalidRequest, match="trace: Input should name calls 1 to 2"):
            client.generate(steps=2, trace=3)


COMMANDS: dict[str, tuple[str, ...]] = {
    "sample": ("-n", "3"),
    "interpolate": ("{a}", "{b}", "--lambda", "0.25", "--lambda", "0.75", "--mode", "ddim"),
    "denoise": ("{a}", "--sigma", "40", "-n", "2", "--average", "--sampler", "ddpm"),
    "restore": ("superres", "{a}"),
}


@pytest.fixture
def files(tmp_path: Path, models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(models_dir))
    for name, png in (("a", A), ("b", B)):
        (tmp_path / f"{name}.png").write_bytes(png)
    return {name: str(tmp_path / f"{name}.png") for name in "ab"}


def run(*arguments: str) -> list[str]:
    result = CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_writes_the_bytes_of_http_with_a_server_and_without(
    difuso: Difuso, api: httpx.Client, tmp_path: Path, files: dict[str, str], command: str
) -> None:
    arguments = [command, *(each.format(**files) for each in COMMANDS[command]), "--steps", str(STEPS), "--seed", "7"]
    traced = [*arguments, "--trace", "1", "--trace", "last", "--trace", "3"]
    served, local, plain = (tmp_path / "new" / f"{name}.npz" for name in ("served", "local", "plain"))
    assert run(*traced, "--out", str(served), "--server", difuso.url) == [str(served)]
    assert run(*traced, "--out", str(local)) == [str(local)]
    kind = "generate" if command == "sample" else command
    expected = post(api, kind, f"{KINDS[kind][0]}&{TRACE}", **NPZ).content
    assert served.read_bytes() == local.read_bytes() == expected
    run(*arguments, "--out", str(plain))
    assert arrays_of(plain.read_bytes()).keys() == {"arr_0"}
    assert np.array_equal(arrays_of(plain.read_bytes())["arr_0"], arrays_of(expected)["arr_0"])


@pytest.mark.parametrize("place", ["here", "on a server"])
def test_mistakes_of_a_command_are_explained(difuso: Difuso, tmp_path: Path, files: dict[str, str], place: str) -> None:
    where = [] if place == "here" else ["--server", difuso.url]
    there = tmp_path / "there.npz"
    there.write_bytes(b"mine")
    out = str(tmp_path / "new.npz")
    for arguments, message in (
        (["sample", "--trace", "last", "--out", str(tmp_path / "folder")], "--trace needs --out FILE.npz"),
        (["denoise", files["a"], "--trace", "last"], "--trace needs --out FILE.npz"),
        (["sample", "--trace", "last", "-n", "65", "--out", out], "-n must be at most 64, not 65, with --trace"),
        (
            ["sample", "--trace", "last", "--label", "all", "--out", out],
            "label: Input should be omitted: tiny has no classes",
        ),
        (["sample", "--trace", "first", "--out", out], "--trace: "),
        (["sample", "--trace", "9", "--steps", "4", "--out", out], "trace: Input should name calls 1 to 4"),
        (["sample", "--trace", "last", "--out", str(there)], "there.npz exists: delete it, or name another file"),
        (["restore", "colorize", files["a"], "--out", str(there)], "there.npz exists: delete it, or name another file"),
    ):
        with pytest.raises(UserError, match=re.escape(message)):
            run(*arguments, *where)
    assert there.read_bytes() == b"mine"
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "b.png", "there.npz"}
