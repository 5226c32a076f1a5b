"""Several front ends that share a port, as processes of their own.

While all others are stopped by SIGSTOP, one of them answers.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from benchmarks.stack import free_port
from difuso.app.settings import ApiSettings
from tests.app_server import FakeWorker
from tests.forking import Command
from tests.serving import ENVIRONMENT, Difuso, executed, running
from tests.waiting import wait_until

ASYNC = {"Prefer": "respond-async"}
NAMES = ("api 1", "api 2")


@contextmanager
def only(difuso: Difuso, name: str) -> Iterator[httpx.Client]:
    """Yields a client that this front end answers."""
    others = [difuso.pid(other) for other in NAMES if other != name]
    for pid in others:
        os.kill(pid, signal.SIGSTOP)
    try:
        with httpx.Client(base_url=difuso.url, timeout=40) as client:
            wait_until(lambda: serves(client), 40, f"{name} serves")
            yield client
    finally:
        for pid in others:
            os.kill(pid, signal.SIGCONT)


def serves(client: httpx.Client) -> bool:
    with suppress(httpx.ConnectError):
        return client.get("/readyz").status_code == 200
    return False


def accepted(metrics: str) -> float:
    (found,) = re.findall(r'^difuso_jobs_accepted_total{kind="generate",model="tiny"} (\S+)$', metrics, re.MULTILINE)
    return float(found)


@pytest.fixture
def two(settings: ApiSettings, tmp_path: Path) -> Iterator[Difuso]:
    """Yields `difuso api` with two front ends, at a port that the system chooses."""
    log = tmp_path / "api.log"
    environment = ENVIRONMENT | {
        "REDIS_URL": settings.redis_url,
        "DIFUSO_MODELS_DIR": str(settings.models_dir),
        "DIFUSO_STORE_URL": settings.store_url,
        "DIFUSO_PORT": "0",
        "DIFUSO_FRONT_ENDS": "2",
    }
    with log.open("wb") as file:
        command = [sys.executable, "-P", "-m", "difuso", "api"]
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=file)

    def ports() -> list[str]:
        return re.findall(r"listening on 127\.0\.0\.1 port (\d+)", log.read_text())

    try:
        wait_until(lambda: len(ports()) == 2, 40, "both front ends are started")
        (port,) = set(ports())
        yield Difuso(process, log, int(port))
    finally:
        process.terminate()
        process.wait(30)


def test_they_share_jobs_and_counts_which_outlive_them(two: Difuso, worker: FakeWorker) -> None:
    with only(two, "api 1") as client:
        job = client.post("/generate", headers=ASYNC).json()
    with only(two, "api 2") as client:
        with client.stream("GET", job["links"]["events"]) as events:
            lines = events.iter_lines()
            assert next(line for line in lines if line.startswith("event:")) == "event: progress"
            worker.succeed(job["id"])
            assert "event: succeeded" in lines
        assert client.post("/generate", headers=ASYNC).status_code == 202

    for name in NAMES:
        with only(two, name) as client:
            metrics = client.get("/metrics").text
            assert accepted(metrics) == 2
            for pid in map(two.pid, NAMES):
                assert f'process_resident_memory_bytes{{pid="{pid}"}} ' in metrics

    dead = two.pid("api 1")
    os.kill(dead, signal.SIGKILL)
    assert httpx.get(f"{two.url}/readyz").status_code == 200
    wait_until(lambda: two.pid("api 1") != dead, 20, "the first front end is started again")
    with only(two, "api 1") as client:
        assert client.post("/generate", headers=ASYNC).status_code == 202
        metrics = client.get("/metrics").text
    assert accepted(metrics) == 3
    assert f'pid="{dead}"' not in metrics


@pytest.mark.slow
def test_sigterm_drains_them_all(two: Difuso) -> None:
    waiting: list[HTTPConnection] = []

    def is_accepted(client: httpx.Client) -> bool:
        return accepted(client.get("/metrics").text) == len(waiting)

    for name in NAMES:
        with only(two, name) as client:
            waiting.append(HTTPConnection(two.url.removeprefix("http://"), timeout=40))
            waiting[-1].request("POST", "/generate")
            wait_until(partial(is_accepted, client), 10, f"a client waits at {name}")
    two.process.terminate()
    assert [each.getresponse().status for each in waiting] == [202, 202]
    assert two.process.wait(25) == 0
    assert re.findall(r"stopping (.+)", two.output) == [*NAMES]
    for each in waiting:
        each.close()


def test_a_taken_port_is_reported_at_once(tmp_path: Path, environment: dict[str, str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        environment |= {"DIFUSO_FRONT_ENDS": "2", "DIFUSO_PORT": str(port)}
        command = Command(["api"], environment=environment, folder=tmp_path, log=tmp_path / "said")
        assert command.wait(20) == 1
    said = (tmp_path / "said").read_text()
    assert f"cannot listen on 127.0.0.1 port {port} (Address already in use): set DIFUSO_PORT to" in said


@pytest.mark.slow
@pytest.mark.usefixtures("redis_server")
def test_difuso_serve_runs_several(tmp_path: Path, environment: dict[str, str]) -> None:
    scraped = free_port()
    environment |= {"DIFUSO_FRONT_ENDS": "2", "DIFUSO_API_METRICS_PORT": str(scraped)}

    def drawn() -> float:
        return accepted(httpx.get(f"http://127.0.0.1:{scraped}/metrics").text)

    with running(tmp_path, environment, start=executed) as difuso:
        for name in NAMES:
            with only(difuso, name) as client:
                assert client.post("/generate?steps=3").headers["content-type"] == "image/png"
        assert drawn() == 2
        dead = difuso.pid("api 2")
        os.kill(dead, signal.SIGKILL)
        assert difuso.picture().status_code == 200
        wait_until(lambda: difuso.pid("api 2") != dead, 20, "the second front end is started again")
        assert drawn() == 3
        difuso.process.terminate()
        assert difuso.process.wait(40) == 0
        assert re.findall(r"stopping (.+)", difuso.output) == ["worker", *NAMES, "redis"]
