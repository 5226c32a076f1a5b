"""Turns a process that `tests.forking` forked into a command of difuso, as if it had been started anew.

It is run by its path, because another package may be called `tests`.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch

from difuso.__main__ import main
from difuso.supervisor import child_processes


def become(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Takes over the place of a new process, and gives torch the settings that it would read at its start."""
    sys.argv = ["difuso", *arguments]
    os.environ.clear()
    os.environ.update(environment)
    logging.getLogger().handlers.clear()
    torch.set_num_threads(int(environment.get("OMP_NUM_THREADS", len(os.sched_getaffinity(0)))))


class Fork(subprocess.Popen[bytes]):
    """A child of `difuso serve` that runs one of our commands."""

    def __init__(self, words: Sequence[str], options: Mapping[str, Any]) -> None:
        self._options = options
        super().__init__(words)

    def _execute_child(self, words: Sequence[str], *_: object) -> None:
        self.pid = os.fork()
        if self.pid:
            self._child_created = True
            return
        status: Any = 1
        try:
            self._begin(words)
            main()
        except SystemExit as end:
            status = end.code or 0
        except BaseException:
            traceback.print_exc()
        threading._shutdown()  # type: ignore[attr-defined]  # joins threads, as the end of a program does
        os._exit(status)

    def _begin(self, words: Sequence[str]) -> None:
        gc.freeze()  # what this process would collect may own a file, whose number is soon another's
        if (log := self._options["stderr"]) is not None:
            os.dup2(log.fileno(), 1)
            os.dup2(log.fileno(), 2)
        os.chdir(self._options["cwd"] or ".")
        os.closerange(3, 4096)
        os.setpgid(0, self._options["process_group"])
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        if words[0] == "nice":
            os.nice(int(words[2]))
        become(words[words.index("difuso") + 1 :], self._options["env"])


def popen(words: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Forks where `difuso serve` starts difuso, and executes all other programs."""
    if "difuso" in words:
        return Fork(words, options)
    return subprocess.Popen(words, **options)


if __name__ == "forked":
    given = globals()["given"]  # by `tests.forking`
    become(given["arguments"], given["environment"])
    os.chdir(given["folder"])
    for number, file in ((1, given["output"]), (2, given["log"])):
        os.dup2(os.open(file, os.O_WRONLY), number)
    vars(child_processes)["subprocess"] = SimpleNamespace(**{**vars(subprocess), "Popen": popen})
    exec(given["first"])
    main()
