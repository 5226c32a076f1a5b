"""The servers under test as processes. None of them is left behind, however a run ends."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom

import httpx

from difuso.cli import OPENMP
from difuso.supervisor.child_processes import ChildProcesses
from difuso.supervisor.machine import this_machine
from difuso.supervisor.shares import share_out, threads_of

from . import machine

START_SECONDS = 180.0
POLL_SECONDS = 0.05
PORTS = range(10_000, 32_000)
ROOT = Path(__file__).parent.parent
# The developer's own settings must not influence a figure.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "REDIS_URL" and not key.startswith("DIFUSO_")}


@dataclass(frozen=True)
class System:
    """A server that answers POST /generate with a PNG.

    Attributes:
        takes_json: whether parameters go in a JSON body instead of the query string.
    """

    name: str
    url: str
    takes_json: bool = False


@dataclass(frozen=True)
class Difuso(System):
    """Our own processes; `metrics_url` is the first worker's."""

    metrics_url: str = ""


@contextmanager
def difuso(model: Path, *, workers: int | None = 1, **settings: str) -> Iterator[Difuso]:
    """Runs `difuso serve` with one model and yields it once all workers are warm.

    Args:
        model: a checkpoint's folder; the only one in its parent.
        workers: the number of workers that share the cores or GPUs; None for as many as `difuso serve` starts.
        settings: further environment variables, such as DIFUSO_DEVICE.
    """
    here = this_machine(settings.get("DIFUSO_DEVICE", "cpu"), ENVIRONMENT)
    count = len(share_out(here, workers, threads_of(ENVIRONMENT)))
    port, metrics_port = free_port(), free_port(count)
    metrics_urls = [f"http://127.0.0.1:{metrics_port + number}/metrics" for number in range(count)]
    with ChildProcesses() as children:
        environment = {
            **ENVIRONMENT,
            "DIFUSO_MODELS_DIR": str(model.parent),
            "DIFUSO_STATE_DIR": str(children.folder / "state"),
            "DIFUSO_METRICS_PORT": str(metrics_port),
            "DIFUSO_LOG_LEVEL": "warning",  # the figures would drown in a line for each request and job
            "DIFUSO_DRAIN_SECONDS": "1",
            "DIFUSO_MAX_WAIT": "100000",  # a worker is kept busy for long by work that is queued at once
            **settings,
        }
        command = [sys.executable, "-P", "-m", "difuso", "serve", "--port", str(port), "--workers", str(count)]
        process = children.spawn(command, env=environment)
        url = f"http://127.0.0.1:{port}"
        _await(lambda: all(map(_get, metrics_urls)), process)  # which a worker serves when its models are warm
        _await(lambda: f'"{model.name}"' in _get(f"{url}/readyz?verbose").partition('"models":')[2], process)
        try:
            yield Difuso("difuso", url, metrics_url=metrics_urls[0])
        finally:
            process.terminate()
            process.wait(START_SECONDS)


@contextmanager
def peer(name: str, model: Path, *, device: str = "cpu") -> Iterator[System]:
    """Starts another server, `lock` or `litserve`, and yields it warm."""
    port = free_port()
    command = [sys.executable, "-m", f"benchmarks.peer_{name}", str(model), str(port), device]
    with ChildProcesses() as children:
        threads = {"OMP_NUM_THREADS": str(len(machine.cores()))}  # as difuso has in all, with its settings
        process = children.spawn(command, env={**threads, **OPENMP, **ENVIRONMENT, "PYTHONPATH": str(ROOT)})
        url = f"http://127.0.0.1:{port}"
        _await(lambda: bool(_get(f"{url}/health")), process)
        yield System(name, url, takes_json=name == "litserve")


def free_port(row: int = 1) -> int:
    """Returns a free port, the first of so many in a row.

    Systems give none of `PORTS` to outgoing connections, one of which could take it before a server does.
    """
    while True:
        first = SystemRandom().choice(PORTS)
        with ExitStack() as taken, suppress(OSError):
            for port in range(first, first + row):
                taken.enter_context(socket.socket()).bind(("127.0.0.1", port))
            return first


def _await(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} ended with {process.returncode} before it was ready; it says why above")
        if time.monotonic() > deadline:
            raise SystemExit(f"still not ready after {START_SECONDS:.0f} s: {process.args!r}")
        time.sleep(POLL_SECONDS)


def _get(url: str) -> str:
    """Returns the body of a good answer, else nothing."""
    try:
        answer = httpx.get(url, timeout=2)
    except httpx.HTTPError:
        return ""
    return answer.text if answer.is_success else ""
