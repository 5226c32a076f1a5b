"""Uploads over real HTTP: a small application with one route that reads two parts as the real ones do."""

from __future__ import annotations

import socket
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request
from PIL import Image
from prometheus_client import CollectorRegistry, generate_latest

from difuso.app.http.metrics import Metrics
from difuso.app.http.middleware import RequestMiddleware
from difuso.app.http.problems import install
from difuso.app.requests import uploads
from difuso.app.requests.uploads import Uploads
from difuso.jobs.images.fitting import Sent, fit, fit_mask, read_file
from difuso.model.shape import Shape
from tests.app_server import serving
from tests.pictures import PNG_MAGIC, header, multipart, saved, with_scans

LIMIT = 2_000_000
MASKED = "/pictures?mask=true"
PNG = saved(Image.new("RGB", (30, 20), "red"), "PNG")
JPEG = saved(Image.new("RGB", (30, 20), "red"), "JPEG")
SECRET = "../../secret-name"


def small_app() -> FastAPI:
    app, reader = FastAPI(), Uploads(LIMIT)
    app.state.metrics = Metrics(CollectorRegistry())
    app.add_middleware(RequestMiddleware, metrics=app.state.metrics)
    install(app)

    how = {"image": partial(fit, shape=Shape.of(16, 3)), "mask": partial(fit_mask, shape=Shape.of(16, 1))}

    @app.post("/pictures")
    async def pictures(request: Request, mask: bool = False) -> dict[str, Any]:
        read = await reader.read(request, how if mask else {"image": how["image"]})
        return {name: [fitted.width, fitted.height, fitted.sha256] for name, fitted in read.items()}

    @app.get("/metrics")
    async def metrics() -> Any:
        return generate_latest(app.state.metrics.registry).decode()

    return app


@pytest.fixture(scope="module")
def api() -> Iterator[httpx.Client]:
    with serving(small_app()) as client:
        yield client


def refused(response: httpx.Response, status: int, kind: str, part: str | None = None) -> None:
    assert response.status_code == status, response.text
    assert response.headers["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == f"/problems/{kind}"
    assert [error["part"] for error in problem.get("errors", [])] == ([] if part is None else [part])
    for inside in ("secret", "BytesIO", "0x7f", "PIL", "multipart.py"):
        assert inside not in response.text


def test_png_and_jpeg_become_the_same_kind_of_png(api: httpx.Client) -> None:
    answer = api.post(MASKED, files={"image": PNG, "mask": ("x.gif", JPEG, "text/html")})
    assert answer.status_code == 200, answer.text
    assert answer.json()["image"][:2] == [30, 20]
    assert answer.json()["mask"][:2] == [30, 20]
    assert answer.json() == api.post(MASKED, files={"mask": JPEG, "image": PNG}).json()


def test_each_bad_picture_has_a_problem_of_its_own_that_names_the_part(api: httpx.Client) -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    bad = {
        "unsupported-format": (415, b"GIF89a" + bytes(99)),
        "bad-image": (422, PNG[:-20]),
        "image-too-large": (422, header(30_000, 30_000) + PNG[33:]),
        "animated-image": (422, saved(frames[0], "PNG", save_all=True, append_images=frames[1:])),
        "image-too-complex": (422, with_scans(saved(frames[0], "JPEG", progressive=True), 1000)),
    }
    for kind, (status, content) in bad.items():
        for part in ("image", "mask"):
            files = {"image": (SECRET, PNG), part: (SECRET, content)}
            refused(api.post(MASKED if part == "mask" else "/pictures", files=files), status, kind, part)
    text = api.get("/metrics").json()
    for kind in bad:
        assert f'difuso_uploads_rejected_total{{reason="{kind}"}} 2.0' in text
    assert SECRET not in text


def test_bodies_that_are_too_long_are_refused_whether_they_say_so_or_not(api: httpx.Client) -> None:
    body = multipart(("image", PNG + bytes(20 * LIMIT)))
    form = {"Content-Type": "multipart/form-data; boundary=b"}
    refused(api.post("/pictures", content=body, headers=form), 413, "content-too-large")
    pieces = iter([body[start : start + 50_000] for start in range(0, len(body), 50_000)])
    refused(api.post("/pictures", content=pieces, headers=form), 413, "content-too-large")


@pytest.mark.parametrize(
    "length",
    [
        "Content-Length: -1",
        "Content-Length: 99999999999999999999",
        "Content-Length: 10\r\nContent-Length: 11",
        "Content-Length: 1e3",
    ],
)
def test_lengths_that_make_no_sense_are_refused_at_once(api: httpx.Client, length: str) -> None:
    head = f"POST /pictures HTTP/1.1\r\nHost: h\r\nContent-Type: multipart/form-data; boundary=b\r\n{length}\r\n\r\n"
    with socket.create_connection((api.base_url.host, api.base_url.port or 80), timeout=5) as connection:
        connection.sendall(head.encode() + multipart(("image", PNG)))
        assert connection.recv(100).split()[1] in (b"400", b"413")


def test_nothing_is_left_on_the_disk(api: httpx.Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no folder for temporary files, so that whoever wanted to write one would fail."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    noise = saved(Image.effect_noise((1300, 1300), 100), "PNG")
    assert LIMIT > len(noise) > 1_000_000
    assert api.post("/pictures", files={"image": noise}).status_code == 200
    refused(api.post("/pictures", files={"image": PNG_MAGIC + noise}), 422, "bad-image", "image")
    assert list(tmp_path.iterdir()) == []


def test_other_requests_are_answered_while_pictures_are_decoded(
    api: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, answered = threading.Event(), threading.Event()

    def decode(file: bytes) -> Sent:
        begun.set()
        assert answered.wait(30)
        return read_file(file)

    monkeypatch.setattr(uploads, "read_file", decode)
    with ThreadPoolExecutor(10) as pool:
        answers = [pool.submit(api.post, "/pictures", files={"image": PNG}) for _ in range(10)]
        assert begun.wait(30)
        assert api.get("/metrics").status_code == 200
        answered.set()
    assert {answer.result().status_code for answer in answers} == {200}
