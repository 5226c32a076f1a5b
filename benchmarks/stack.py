"""The servers under test as processes. None of them is left behind, however a run ends."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from difuso.supervisor.child_processes import ChildProcesses
from difuso.supervisor.machine import this_machine
from difuso.supervisor.redis_server import RedisServer
from difuso.supervisor.shares import share_out
from difuso.supervisor.standalone import API_NICE

START_SECONDS = 180.0
POLL_SECONDS = 0.05
ROOT = Path(__file__).parent.parent
# The developer's own settings must not influence a figure.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "REDIS_URL" and not key.startswith("DIFUSO_")}
ENVIRONMENT["DIFUSO_STATE_DIR"] = "var"  # in the folder where the process runs


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
    """Our own processes; `worker_pid` and `metrics_url` are those of the first worker."""

    api_pid: int = 0
    worker_pid: int = 0
    metrics_url: str = ""


@contextmanager
def difuso(
    model: Path,
    *,
    device: str = "cpu",
    exact: bool = True,
    workers: int | None = 1,
) -> Iterator[Difuso]:
    """Starts Redis, workers and the API as `difuso serve` does, and yields them warm.

    Args:
        model: a checkpoint's folder; the only one in its parent.
        device, exact: settings of the workers.
        workers: the number of workers that share the cores or GPUs; None for as many as `difuso serve` starts.
    """
    shares = share_out(this_machine(device, ENVIRONMENT), workers)
    port, metrics_ports = free_port(), [free_port() for _ in shares]
    with ChildProcesses() as children, closing(RedisServer(children, children.folder / "redis")) as redis_server:
        redis_server.start()
        settings = {
            **ENVIRONMENT,
            "REDIS_URL": redis_server.url,
            "DIFUSO_MODELS_DIR": str(model.parent),
            "DIFUSO_STORE_URL": str(children.folder / "store"),
            "DIFUSO_PORT": str(port),
            "DIFUSO_DEVICE": device,
            "DIFUSO_EXACT": str(exact),
            "DIFUSO_LOG_LEVEL": "warning",  # the figures would drown in a line for each request and job
            "DIFUSO_MAX_WAIT": "100000",  # a worker is kept busy for long by work that is queued at once
        }
        command = [sys.executable, "-P", "-m", "difuso"]
        spawned = [
            children.spawn(
                [*command, "worker"],
                env={**settings, "DIFUSO_METRICS_PORT": str(metrics_port), **share.environment_in(children.folder)},
                processors=share.processors,
            )
            for metrics_port, share in zip(metrics_ports, shares, strict=True)
        ]
        api = children.spawn(["nice", "-n", str(API_NICE), *command, "api"], env=settings)
        url = f"http://127.0.0.1:{port}"
        metrics_urls = [f"http://127.0.0.1:{each}/metrics" for each in metrics_ports]
        _await(lambda: all(map(_get, metrics_urls)), *spawned, api)  # which a worker serves when its models are warm
        _await(lambda: f'"{model.name}"' in _get(f"{url}/readyz?verbose").partition('"models":')[2], *spawned, api)
        yield Difuso(
            "difuso",
            url,
            api_pid=api.pid,
            worker_pid=spawned[0].pid,
            metrics_url=metrics_urls[0],
        )


@contextmanager
def peer(name: str, model: Path, *, device: str = "cpu") -> Iterator[System]:
    """Starts another server, `lock` or `litserve`, and yields it warm."""
    port = free_port()
    command = [sys.executable, "-m", f"benchmarks.peer_{name}", str(model), str(port), device]
    with ChildProcesses() as children:
        process = children.spawn(command, env={**ENVIRONMENT, "PYTHONPATH": str(ROOT)})
        url = f"http://127.0.0.1:{port}"
        _await(lambda: bool(_get(f"{url}/health")), process)
        yield System(name, url, takes_json=name == "litserve")


def free_port() -> int:
    """Returns a port that no process uses at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _await(ready: Callable[[], bool], *processes: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        ended = next((process for process in processes if process.poll() is not None), None)
        if ended is not None:
            raise SystemExit(f"{ended.args!r} ended with {ended.returncode} before it was ready; it says why above")
        if time.monotonic() > deadline:
            raise SystemExit(f"still not ready after {START_SECONDS:.0f} s: {[process.args for process in processes]}")
        time.sleep(POLL_SECONDS)


def _get(url: str) -> str:
    """Returns the body of a good answer, else nothing."""
    try:
        answer = httpx.get(url, timeout=2)
    except httpx.HTTPError:
        return ""
    return answer.text if answer.is_success else ""
