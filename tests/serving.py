"""`difuso serve` as a process of its own, for tests that use it as its users do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.stack import free_port
from tests.forking import Command
from tests.waiting import wait_until

# What a developer has set for themselves must not decide a test.
ENVIRONMENT = {key: value for key, value in os.environ.items() if key != "REDIS_URL" and not key.startswith("DIFUSO_")}
ENVIRONMENT["DIFUSO_STATE_DIR"] = "var"  # of the folder where the process runs
ENVIRONMENT["DIFUSO_WORKERS"] = "1"  # on two cores there would be two
ENVIRONMENT["OMP_NUM_THREADS"] = "1"  # threads that have to share a core stall
ENVIRONMENT["DIFUSO_TRAINING"] = "false"  # a trainer is one more process
SERVE = [sys.executable, "-P", "-m", "difuso", "serve"]


class Difuso:
    """A running `difuso serve` and its output."""

    def __init__(self, process: subprocess.Popen[bytes] | Command, log: Path, port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self._log = log

    @property
    def output(self) -> str:
        return self._log.read_text()

    @property
    def is_ready(self) -> bool:
        assert self.process.poll() is None, self.output
        return f"difuso is ready: {self.url}" in self.output

    def pid(self, name: str) -> int:
        """Returns the pid of the child that was started last under this name."""
        return int(re.findall(rf"started {name} \(process (\d+)\)", self.output)[-1])

    def picture(self) -> httpx.Response:
        return httpx.post(f"{self.url}/generate?steps=5", timeout=30)


def executed(
    port: int, folder: Path, environment: dict[str, str], log: Path, *, python: str = sys.executable
) -> subprocess.Popen[bytes]:
    """Starts the command as its user does."""
    with log.open("wb") as file:
        return subprocess.Popen([python, *SERVE[1:], "--port", str(port)], cwd=folder, env=environment, stderr=file)


def forked(port: int, folder: Path, environment: dict[str, str], log: Path) -> Command:
    """Starts the command and its children without their imports."""
    return Command(["serve", "--port", str(port)], environment=environment, folder=folder, log=log)


@contextmanager
def running(
    folder: Path,
    environment: dict[str, str],
    *,
    ready: bool = True,
    port: int | None = None,
    start: Callable[[int, Path, dict[str, str], Path], subprocess.Popen[bytes] | Command] = forked,
) -> Iterator[Difuso]:
    port, log = port or free_port(), folder / "serve.log"
    process = start(port, folder, environment, log)
    difuso = Difuso(process, log, port)
    try:
        if ready:
            wait_until(lambda: difuso.is_ready, timeout=40, description="difuso is ready")
        yield difuso
    finally:
        process.terminate()
        process.wait(30)
