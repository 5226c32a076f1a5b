"""The Python client and the command line's --server against one `difuso serve`, whose processes die."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from difuso import AsyncClient, Client
from difuso.client import (
    Ended,
    JobCancelled,
    Preview,
    Progress,
    Result,
)
from difuso.client.options import Generate
from tests.serving import Difuso
from tests.waiting import wait_until

pytestmark = pytest.mark.timeout(180)  # jobs of some seconds, with whatever else the machine does

ROOT = Path(__file__).parents[2]
SIZE = 16
PIXELS = np.clip(np.linspace(60, 190, SIZE)[None, :, None] + np.linspace(-20, 20, SIZE)[:, None, None], 0, 255)
A = PIXELS.repeat(3, axis=2).astype(np.uint8)
B = A[::-1, ::-1]
MASK = np.zeros((SIZE, SIZE), bool)
MASK[4:11, 5:13] = True

# Each kind of job: the images and options of the client.
KINDS: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {
    "generate": ((), {"n": 3, "steps": 4, "seed": 7}),
    "interpolate": ((A, B), {"lambda_": [0.25, 0.75], "steps": 4, "seed": 7, "noise": "rescaled"}),
    "denoise": ((A,), {"sigma": 20.5, "n": 2, "average": True, "steps": 4, "seed": 7}),
    "restore": ((A,), {"task": "inpaint", "mask": MASK, "steps": 4, "seed": 7}),
}


@pytest.fixture(scope="module")
def client(difuso: Difuso) -> Iterator[Client]:
    with Client(difuso.url, timeout=None) as client:
        yield client


def examples() -> list[str]:
    """The pieces of Python of docs/client.md."""
    pieces: list[list[str]] = [[]]
    for line in (ROOT / "docs" / "client.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("    ") or (not line and pieces[-1]):
            pieces[-1].append(line[4:])
        elif pieces[-1]:
            pieces.append([])
    texts = ["\n".join(piece) for piece in pieces]
    return [text for text in texts if "import" in text]


@pytest.mark.slow
def test_the_examples_of_the_documentation_run(
    difuso: Difuso, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    assert len(examples()) == 4
    for example in examples():
        exec(example.replace("http://127.0.0.1:8000", difuso.url), found)
    assert "of 200 steps" in capsys.readouterr().out
    assert [len(found[name]) for name in ("faces", "between", "clean", "whole", "images", "results")] == [
        4,
        3,
        1,
        1,
        4,
        8,
    ]
    assert np.array_equal(np.asarray(found["whole"][0])[:8], np.asarray(found["a"])[:8])
    assert {path.name for path in tmp_path.iterdir()} >= {f"face-{seed}.png" for seed in range(100, 104)}
    found["client"].close()


@pytest.mark.slow
def test_a_job_is_followed_to_its_end(client: Client) -> None:
    job = client.submit("generate", n=4, steps=200, seed=3)
    assert job.state in ("queued", "running")
    events = list(job.events())
    *before, last = events
    assert isinstance(last, Ended)
    assert job.state == last.state == "succeeded"
    progress = [event for event in before if isinstance(event, Progress)]
    assert len(progress) > 1
    assert [each.done for each in progress] == sorted(each.done for each in progress)
    assert {each.total for each in progress} == {800}
    previews = [event for event in before if isinstance(event, Preview)]
    assert previews
    assert previews[0].image.size == (SIZE, SIZE)
    assert client.job(job.id).wait().facts == job.facts
    assert len(job.images()) == 4


def test_a_cancelled_job_has_no_images(client: Client) -> None:
    job = client.submit("generate", n=8, steps=1000)
    assert job.cancel().wait(20).state == "cancelled"
    with pytest.raises(JobCancelled) as caught:
        job.images()
    assert caught.value.problem is not None
    assert caught.value.problem.type == "/problems/job-cancelled"


def test_many_mixed_jobs_at_once_give_what_each_gives_alone(difuso: Difuso, client: Client) -> None:
    alone = {kind: getattr(client, kind)(*images, **options).pngs for kind, (images, options) in KINDS.items()}

    async def together() -> list[Result]:
        async with AsyncClient(difuso.url, timeout=50) as asynchronous:
            calls = [
                getattr(asynchronous, kind)(*images, **options)
                for _ in range(3)
                for kind, (images, options) in KINDS.items()
            ]
            results: list[Result] = await asyncio.gather(*calls)
            return results

    results = asyncio.run(together())
    assert [result.pngs for result in results] == list(alone.values()) * 3
    assert len({result.facts["id"] for result in results}) == 12


def kill_api(difuso: Difuso) -> None:
    """Kills the API process, which the supervisor starts again."""
    os.kill(difuso.pid("api"), signal.SIGKILL)


LONG: Generate = {"n": 4, "steps": 60, "seed": 5}


def test_a_wait_and_events_survive_the_death_of_the_api(difuso: Difuso, client: Client) -> None:
    expected = client.generate(**LONG).pngs
    job = client.submit("generate", **LONG)
    events = job.events()
    first = next(event for event in events if isinstance(event, Progress) and event.state == "running")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.job(job.id).images)
        kill_api(difuso)
        rest = list(events)
        assert waiting.result(timeout=40).pngs == expected
    assert isinstance(rest[-1], Ended)
    assert rest[-1].state == "succeeded"
    assert first not in rest


class Watched(httpx.AsyncHTTPTransport):
    """The network; `job_id` is there when the job is made, and its client has heard of it or not yet."""

    def __init__(self, heard: bool) -> None:
        super().__init__()
        self.job_id: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._heard = heard
        self._made = ""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._heard and self._made and not self.job_id.done():
            self.job_id.set_result(self._made)
        response = await super().handle_async_request(request)
        self._made = response.headers.get("X-Job-Id", "")  # absent if the server is busy
        if not self._heard and self._made and not self.job_id.done():
            self.job_id.set_result(self._made)
        return response


@pytest.mark.parametrize("heard", [True, False])
def test_a_task_that_is_cancelled_cancels_its_job(difuso: Difuso, client: Client, heard: bool) -> None:
    async def give_up(**options: Any) -> str:
        transport = Watched(heard)
        async with AsyncClient(difuso.url, transport=transport) as asynchronous:
            task = asyncio.create_task(asynchronous.generate(n=8, steps=1000, **options))
            job_id = await transport.job_id
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return job_id

    assert client.job(asyncio.run(give_up())).wait(20).state == "cancelled"
    kept = client.job(asyncio.run(give_up(idempotency_key=f"mine {heard}")))  # somebody may come back with the key
    assert kept.state in ("queued", "running")
    assert kept.cancel().wait(20).state == "cancelled"


@pytest.mark.slow
def test_ctrl_c_at_a_command_cancels_its_job(difuso: Difuso, client: Client, tmp_path: Path) -> None:
    arguments = ["sample", "--server", difuso.url, "-n", "16", "--steps", "1000", "--tag", "ctrl-c"]
    command = [sys.executable, "-P", "-m", "difuso", *arguments]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: [*client.jobs(tag="ctrl-c", state="running")], timeout=60, description="the job runs")
    assert process.stderr is not None
    seen = process.stderr.readline()  # so the command has heard of its job
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    process.stderr.close()
    assert "tiny, seed" in seen
    (job,) = client.jobs(tag="ctrl-c")
    assert job.wait(30).state == "cancelled"
    assert [*tmp_path.iterdir()] == []
