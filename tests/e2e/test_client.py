"""The Python client and the command line's --server: one `difuso serve`, and what plain HTTP answers."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from difuso import AsyncClient, Client, cli
from difuso.client import (
    Ended,
    ImageLike,
    ImageRefused,
    InvalidRequest,
    Job,
    JobCancelled,
    NotFound,
    Preview,
    Progress,
    Result,
)
from difuso.client.options import Generate
from difuso.errors import UserError
from tests.pictures import saved
from tests.serving import ENVIRONMENT, Difuso, free_port, running
from tests.waiting import WaitUntil

pytestmark = pytest.mark.timeout(180)  # jobs of some seconds, with whatever else the machine does

ROOT = Path(__file__).parents[2]
SIZE = 16
PIXELS = np.clip(np.linspace(60, 190, SIZE)[None, :, None] + np.linspace(-20, 20, SIZE)[:, None, None], 0, 255)
A = PIXELS.repeat(3, axis=2).astype(np.uint8)
B = A[::-1, ::-1]
MASK = np.zeros((SIZE, SIZE), bool)
MASK[4:11, 5:13] = True

# Each kind of job: the images and options of the client, and the parameters of HTTP.
KINDS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str, dict[str, Any]]] = {
    "generate": ((), {"n": 3, "steps": 4, "seed": 7}, "n=3&steps=4&seed=7", {}),
    "interpolate": (
        (A, B),
        {"lambda_": [0.25, 0.75], "steps": 4, "seed": 7, "noise": "rescaled"},
        "lambda=0.25&lambda=0.75&steps=4&seed=7&noise=rescaled",
        {"image_a": A, "image_b": B},
    ),
    "denoise": (
        (A,),
        {"sigma": 20.5, "n": 2, "average": True, "steps": 4, "seed": 7},
        "sigma=20.5&n=2&average=true&steps=4&seed=7",
        {"image": A},
    ),
    "restore": (
        (A,),
        {"task": "inpaint", "mask": MASK, "steps": 4, "seed": 7},
        "task=inpaint&steps=4&seed=7",
        {"image": A, "mask": MASK},
    ),
}


def as_png(pixels: np.ndarray[Any, Any]) -> bytes:
    return saved(Image.fromarray(pixels), "PNG")


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


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_bytes_of_plain_http(difuso: Difuso, client: Client, kind: str) -> None:
    images, options, query, files = KINDS[kind]
    parts = {name: as_png(pixels) for name, pixels in files.items()}
    answer = httpx.post(
        f"{difuso.url}/{kind}?{query}", files=parts, headers={"Accept": "application/zip"}, timeout=30
    ).raise_for_status()
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        expected = {name: archive.read(name) for name in archive.namelist()}
    result: Result = getattr(client, kind)(*images, **options)
    assert list(result.pngs) == [expected[f"{index}.png"] for index in range(len(expected) - 1)]
    assert result.manifest == client.job(result.facts["id"]).images().manifest
    assert [image.size for image in result] == [(SIZE, SIZE)] * len(result)
    assert result.facts["state"] == "succeeded"
    assert result.facts["id"] != answer.headers["X-Job-Id"]


def test_an_image_is_the_same_in_every_form(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(as_png(A))
    forms: list[ImageLike] = [
        path,
        str(path),
        path.read_bytes(),
        Image.fromarray(A),
        A,
        np.dstack([A, np.full((SIZE, SIZE), 255, np.uint8)]),
    ]
    made = [client.denoise(form, sigma=9, steps=2, seed=1).pngs for form in forms]
    assert made == made[:1] * len(forms)


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


def test_mistakes_are_typed_errors_with_their_problem(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="steps: Must lie between 1 and 1000") as caught:
        client.generate(steps=1001)
    assert caught.value.problem is not None
    assert caught.value.problem.errors[0]["parameter"] == "steps"
    assert caught.value.problem.request_id
    with pytest.raises(ImageRefused):
        client.denoise(b"nothing")
    with pytest.raises(NotFound):
        client.job("00000000-0000-0000-0000-000000000000")


def test_the_models_are_those_of_the_server(client: Client, small_models: Path, wait_until: WaitUntil) -> None:
    def states() -> set[str]:
        return {model["state"] for model in client.models()["models"]}

    wait_until(lambda: states() == {"ready"}, timeout=30, description="all models are ready")
    models = client.models()
    assert models["default"] == "tiny"
    assert [model["name"] for model in models["models"]] == sorted(path.name for path in small_models.iterdir())


def test_many_mixed_jobs_at_once_give_what_each_gives_alone(difuso: Difuso, client: Client) -> None:
    alone = {kind: getattr(client, kind)(*images, **options).pngs for kind, (images, options, _, _) in KINDS.items()}

    async def together() -> list[Result]:
        async with AsyncClient(difuso.url, timeout=50) as asynchronous:
            calls = [
                getattr(asynchronous, kind)(*images, **options)
                for _ in range(3)
                for kind, (images, options, _, _) in KINDS.items()
            ]
            results: list[Result] = await asyncio.gather(*calls)
            return results

    results = asyncio.run(together())
    assert [result.pngs for result in results] == list(alone.values()) * 3
    assert len({result.facts["id"] for result in results}) == 12


def kill_api(difuso: Difuso) -> None:
    """Kills the API process, which the supervisor starts again."""
    os.kill(difuso.pid("api"), signal.SIGKILL)


def is_under_way(job: Job) -> bool:
    done: int = job.refresh().facts["steps"]["done"]
    return done > 0


LONG: Generate = {"n": 4, "steps": 60, "seed": 5}


def test_a_wait_and_events_survive_the_death_of_the_api(difuso: Difuso, client: Client, wait_until: WaitUntil) -> None:
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


async def draw_all(url: str, seeds: range, count: Callable[[], None] = lambda: None) -> list[list[bytes]]:
    """Draws jobs of all kinds in turn, a few dozen at a time."""
    async with AsyncClient(url, timeout=None) as client:
        together = asyncio.Semaphore(32)

        async def draw(seed: int) -> list[bytes]:
            kind = list(KINDS)[seed % len(KINDS)]
            images, options, *_ = KINDS[kind]
            async with together:
                result = await getattr(client, kind)(*images, **options | {"seed": seed})
            count()
            return list(result.pngs)

        return await asyncio.gather(*map(draw, seeds))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_a_thousand_jobs_arrive_whichever_processes_are_killed(
    models_dir: Path, redis_server: object, tmp_path: Path
) -> None:
    """After every fiftieth answer the API, the worker or Redis is killed; the bytes are those of a calm server."""
    environment, seeds = ENVIRONMENT | {"DIFUSO_MODELS_DIR": str(models_dir)}, range(1000)
    with running(tmp_path, environment) as difuso:
        calm = asyncio.run(draw_all(difuso.url, seeds))
    answers, victims, killed = itertools.count(1), itertools.cycle(["api", "worker", "redis"]), []

    def count() -> None:
        if next(answers) % 50 == 0:
            name = next(victims)
            with suppress(ProcessLookupError):  # the supervisor is just starting it again
                os.kill(difuso.pid(name), signal.SIGKILL)
                killed.append(name)

    (tmp_path / "killed").mkdir()
    with running(tmp_path / "killed", environment) as difuso:
        disturbed = asyncio.run(draw_all(difuso.url, seeds, count))
    assert disturbed == calm
    assert len(killed) > 12
    assert set(killed) == {"api", "worker", "redis"}


@pytest.mark.slow
def test_a_wait_survives_a_restart_of_everything(
    models_dir: Path, redis_server: object, tmp_path: Path, wait_until: WaitUntil
) -> None:
    environment = ENVIRONMENT | {"DIFUSO_MODELS_DIR": str(models_dir), "DIFUSO_DRAIN_SECONDS": "1"}
    port = free_port()
    with ThreadPoolExecutor(2) as pool, Client(f"http://127.0.0.1:{port}", timeout=100) as client:
        with running(tmp_path, environment, port=port):
            job = client.submit("generate", n=16, steps=1000, seed=5)
            wait_until(lambda: is_under_way(job), timeout=20, description="the job is under way")
            waiting = pool.submit(client.job(job.id).images)
        assert not waiting.done()
        asking = pool.submit(client.generate, n=2, steps=5, seed=5)  # there is no server yet
        with running(tmp_path, environment, port=port):
            result = waiting.result(timeout=100)
            assert result.facts["id"] == job.id
            assert asking.result(timeout=60).pngs == client.generate(n=2, steps=5, seed=5).pngs
            assert len(set(result.pngs)) == 16


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


COMMANDS = {
    "sample": ["-n", "3", "--steps", "4", "--seed", "100"],
    "interpolate": ["{a}", "{b}", "--lambda", "0.25", "--lambda", "0.5", "--steps", "4", "--seed", "7"],
    "denoise": ["{a}", "--sigma", "20", "-n", "2", "--steps", "4", "--seed", "7"],
    "restore": ["inpaint", "{a}", "--mask", "{mask}", "--steps", "4", "--seed", "7"],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("files")
    for name, pixels in (("a", A), ("b", B), ("mask", MASK)):
        (folder / f"{name}.png").write_bytes(as_png(pixels))
    return {name: str(folder / f"{name}.png") for name in ("a", "b", "mask", "absent")}


def run(*arguments: str) -> list[str]:
    result = CliRunner().invoke(cli.app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


@pytest.mark.parametrize(
    "command",
    ["sample", "restore", *(pytest.param(each, marks=pytest.mark.slow) for each in ("interpolate", "denoise"))],
)
def test_a_command_writes_the_same_files_with_a_server_and_without(
    difuso: Difuso,
    models_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    files: dict[str, str],
    command: str,
) -> None:
    arguments = [command, *(each.format(**files) for each in COMMANDS[command])]
    served = run(*arguments, "--out", str(tmp_path / "served"), "--server", difuso.url)
    monkeypatch.setenv("DIFUSO_MODELS_DIR", str(models_dir))
    local = run(*arguments, "--out", str(tmp_path / "local"))
    assert [Path(path).name for path in served] == [Path(path).name for path in local]
    assert [Path(path).read_bytes() for path in served] == [Path(path).read_bytes() for path in local]


def test_mistakes_of_a_command_with_a_server_are_explained(
    difuso: Difuso, small_models: Path, files: dict[str, str]
) -> None:
    names = ", ".join(sorted(path.name for path in small_models.iterdir()))
    for arguments, message in (
        (["sample", "--steps", "1001"], "steps: Must lie between 1 and 1000"),
        (["restore", "inpaint", files["a"]], "mask: "),
        (["denoise", files["absent"]], "absent.png: No such file or directory"),
        (["sample", "--model", "nobody"], f"model: Input should be one of {names}"),
    ):
        with pytest.raises(UserError, match=message):
            run(*arguments, "--server", difuso.url)


@pytest.mark.slow
def test_ctrl_c_at_a_command_cancels_its_job(
    difuso: Difuso, client: Client, tmp_path: Path, wait_until: WaitUntil
) -> None:
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
