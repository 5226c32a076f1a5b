"""Commands of difuso as processes of their own, forked from one that has already imported torch and everything else.

These imports take seconds of a processor, and many tests start several commands. Tests of the supervisor and of the
command line, which concern the start itself, execute the programs instead.
"""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from pathlib import Path

from difuso.cli import OPENMP

FORKED = Path(__file__).with_name("forked.py")
LOADED = ["difuso.app.main", "difuso.cli", "difuso.supervisor.standalone", "difuso.worker.main"]
FOR_TRAINING = ["difuso.commands.training", "torch._dynamo"]  # the second is imported by every optimiser


@cache
def fork_server() -> ForkServerContext:
    """Returns the process that has imported everything, with the settings that OpenMP reads when it is loaded."""
    for name, value in OPENMP.items():
        os.environ.setdefault(name, value)
    context = get_context("forkserver")
    context.set_forkserver_preload(LOADED)
    return context


class Command:
    """A running command, with the methods of `subprocess.Popen`.

    Args:
        arguments: the arguments of `difuso`.
        environment: its whole environment.
        folder: its working directory.
        log, output: the files that become its standard error and its standard output.
        first: Python that it executes before, for tests that break something in it.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        folder: Path,
        log: Path = Path(os.devnull),
        output: Path = Path(os.devnull),
        first: str = "",
    ) -> None:
        for file in (log, output):
            file.write_bytes(b"")
        given = {
            "arguments": arguments,
            "environment": dict(environment),
            "folder": str(folder),
            "log": str(log),
            "output": str(output),
            "first": first,
        }
        self._process = fork_server().Process(
            target=runpy.run_path, args=(str(FORKED),), kwargs={"init_globals": {"given": given}, "run_name": "forked"}
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid: int = self._process.pid
        self.args = ["difuso", *arguments]

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        status = self.returncode
        if status is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)
