"""Both clients against an imagined server: what they send, how they pause, and how they follow events."""

from __future__ import annotations

import asyncio
import base64
import inspect
import io
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import httpx
import pytest
import trio
from PIL import Image

from difuso import AsyncClient, Client
from difuso.client import AsyncJob, DifusoError, Ended, Job, Preview, Price, Progress, Result
from tests.pictures import saved

ID = "5f0c0000-0000-0000-0000-000000000000"
PNGS = [saved(Image.new("RGB", (2, 2), (level, 0, 0)), "PNG") for level in (1, 2, 3)]
Handler = Callable[[httpx.Request], httpx.Response]
Ask = Callable[[Handler, Callable[[Any], Any]], Any]


def job(state: str, *, code: int = 200) -> httpx.Response:
    return httpx.Response(code, json={"id": ID, "state": state})


def zipped() -> httpx.Response:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for index, png in enumerate(PNGS):
            archive.writestr(f"{index}.png", png)
        archive.writestr("manifest.json", json.dumps({"images": [{"file": f"{index}.png"} for index in range(3)]}))
    return httpx.Response(200, content=file.getvalue())


class Script:
    """A server that answers from a list, and notes what it was asked."""

    def __init__(self, *answers: httpx.Response | BaseException) -> None:
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer


@pytest.fixture(params=["Client", "AsyncClient, asyncio", "AsyncClient, trio"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """Lets a client do something, with either class and event loop."""

    async def ask_async(handler: Handler, work: Callable[[Any], Any]) -> Any:
        async with AsyncClient("http://difuso", api_key="secret\n", transport=httpx.MockTransport(handler)) as client:
            done = work(client)
            return await done if inspect.isawaitable(done) else done

    def ask(handler: Handler, work: Callable[[Any], Any]) -> Any:
        if request.param == "AsyncClient, asyncio":
            return asyncio.run(ask_async(handler, work))
        if request.param == "AsyncClient, trio":
            return trio.run(ask_async, handler, work)
        with Client("http://difuso", api_key="secret\n", transport=httpx.MockTransport(handler)) as client:
            return work(client)

    return ask


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of both clients, which do not wait."""
    noted: list[float] = []

    async def sleep(seconds: float) -> None:
        noted.append(seconds)

    monkeypatch.setattr(time, "sleep", noted.append)
    monkeypatch.setattr(anyio, "sleep", sleep)
    return noted


def test_a_call_pauses_as_asked_and_returns_images(ask: Ask, pauses: list[float]) -> None:
    busy = httpx.Response(429, headers={"Retry-After": "3"}, text="")
    script = Script(busy, httpx.ConnectError("refused"), job("queued", code=202), job("succeeded"), zipped())
    result = ask(script, lambda client: client.generate(n=3, steps=50))
    assert pauses[0] == 3.0
    assert len(pauses) == 2
    assert [str(request.url) for request in script.requests[:3]] == ["http://difuso/generate?n=3&steps=50"] * 3
    assert len({request.headers["Idempotency-Key"] for request in script.requests[:3]}) == 1
    assert {request.headers["Authorization"] for request in script.requests} == {"Bearer secret"}
    assert list(result.pngs) == PNGS
    assert [image.getpixel((0, 0)) for image in result] == [(1, 0, 0), (2, 0, 0), (3, 0, 0)]
    assert result[-1] is result.images[2]
    assert result[:2] == result.images[:2]
    assert result.warnings == []
    assert Result(PNGS, {}, {"id": ID, "warnings": [{"code": "c", "detail": "d"}]}).warnings == [
        {"code": "c", "detail": "d"}
    ]


def test_a_price_is_a_value_and_makes_no_job(ask: Ask, pauses: list[float]) -> None:
    facts: dict[str, Any] = {"kind": "generate", "model": "tiny", "image_steps": 100, "images": 2}
    facts |= {"seconds": 1.5, "eta_seconds": 4.0, "warnings": [{"code": "c", "detail": "d"}]}
    script = Script(httpx.Response(200, json=facts | {"params": {"seed": 7}}))
    price = ask(script, lambda client: client.price("generate", n=2, steps=50))
    assert price == Price(**facts, params={"seed": 7})
    assert [str(request.url) for request in script.requests] == ["http://difuso/generate?n=2&steps=50&dry_run=true"]


def test_a_body_that_breaks_off_is_asked_for_again(ask: Ask, pauses: list[float]) -> None:
    broken = httpx.Response(200, stream=Stream([b"PK"], httpx.RemoteProtocolError("cut off")))
    script = Script(job("succeeded", code=202), broken, zipped())
    assert len(ask(script, lambda client: client.generate())) == 3
    assert len(pauses) == 1


def test_an_upload_is_sent_again_whole(ask: Ask, pauses: list[float]) -> None:
    script = Script(httpx.ReadError("reset"), job("succeeded", code=202), zipped())
    ask(script, lambda client: client.denoise(b"\x89PNG", sigma=5))
    for request in script.requests[:2]:
        boundary = request.headers["Content-Type"].partition("boundary=")[2].encode()
        assert request.content.count(boundary) == 2
        assert b"\r\n\r\n\x89PNG\r\n" in request.content


def test_a_redirect_is_not_followed_so_that_the_key_goes_nowhere_else(ask: Ask) -> None:
    script = Script(httpx.Response(307, headers={"Location": "http://elsewhere/models"}, text=""))
    with pytest.raises(DifusoError, match="307"):
        ask(script, lambda client: client.models())
    assert len(script.requests) == 1


def test_ctrl_c_while_a_client_waits_cancels_the_job() -> None:
    script = Script(job("queued", code=202), KeyboardInterrupt(), job("running", code=202), job("cancelled"))
    with Client("http://difuso", transport=httpx.MockTransport(script)) as client, pytest.raises(KeyboardInterrupt):
        client.generate()
    assert script.requests[-1].method == "DELETE"


def test_a_scope_that_is_cancelled_cancels_the_job() -> None:
    """Unlike asyncio's, cancellation by trio goes on until its scope ends, and would end the request to cancel too."""

    async def main() -> list[httpx.Request]:
        asked: list[httpx.Request] = []

        async def handler(request: httpx.Request) -> httpx.Response:
            asked.append(request)
            if request.method == "GET":
                scope.cancel()
            await trio.lowlevel.checkpoint()
            return job("cancelled" if request.method == "DELETE" else "queued")

        async with AsyncClient("http://difuso", transport=httpx.MockTransport(handler)) as client:
            with trio.CancelScope() as scope:
                await client.generate()
        assert scope.cancelled_caught
        return asked

    assert [request.method for request in trio.run(main)] == ["POST", "GET", "POST", "DELETE"]


class Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that may break off."""

    def __init__(self, pieces: list[bytes], error: Exception | None = None) -> None:
        self._pieces = pieces
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece


def event(name: str, **data: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def progress(done: int) -> bytes:
    return event("progress", state="running", steps={"done": done, "total": 9}, eta_seconds=1.5)


def events(*pieces: bytes, error: Exception | None = None) -> httpx.Response:
    return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Stream(list(pieces), error))


def followed(client: Client | AsyncClient) -> Any:
    """All events of a job, and the job."""
    if isinstance(client, Client):
        job = Job(client, {"id": ID, "state": "queued"})
        return list(job.events()), job

    async def follow() -> Any:
        job = AsyncJob(client, {"id": ID, "state": "queued"})
        return [event async for event in job.events()], job

    return follow()


def test_events_go_on_where_the_connection_broke(ask: Ask, pauses: list[float]) -> None:
    preview = event("preview", index=1, image_steps=4, png=base64.b64encode(PNGS[0]).decode())
    script = Script(
        events(
            progress(1), b": ping\n\n", preview[:20], preview[20:], progress(5)[:-1], error=httpx.ReadError("reset")
        ),
        httpx.ConnectError("refused"),
        events(),  # a server that shuts down
        httpx.Response(200, stream=Stream([b"<html>"])),  # a proxy that answers for it
        events(progress(1), progress(5), event("news", of="a newer server")),
        events(progress(5), event("succeeded", id=ID, state="succeeded")),
    )
    found, job = ask(script, followed)
    ended = {"id": ID, "state": "succeeded"}
    assert found == [
        Progress("running", 1, 9, None, 1.5),
        Preview(1, 4, PNGS[0]),
        Progress("running", 5, 9, None, 1.5),
        Ended("succeeded", ended),
    ]
    assert job.facts == ended
    assert len(pauses) == 5


def test_events_of_a_job_that_is_unknown_are_an_error(ask: Ask) -> None:
    with pytest.raises(DifusoError, match="404"):
        ask(Script(httpx.Response(404, stream=Stream([b"<html>"]))), followed)


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=False)


def test_the_package_is_light_and_its_client_knows_the_server_by_http_only() -> None:
    assert python("import sys, difuso; print(*sys.modules)").stdout.find("httpx") == -1
    loaded = python("import sys; from difuso import Client; print(*sys.modules)").stdout.split()
    assert "httpx" in loaded
    assert not {"app", "jobs", "model", "pydantic", "torch", "worker"} & set(loaded)
