"""The machine that figures belong to: the cores in use, the load of other programs."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from difuso.model.processor import processor_name

PACKAGES = ("difuso", "torch", "diffusers", "litserve", "fastapi", "uvicorn", "redis", "rq")
QUIET_LOAD = 0.5


def use_cores(count: int) -> None:
    """Binds this process and all its children to the first `count` cores that it may use.

    Otherwise the load generator would run on cores that the servers on a small machine do not have.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores()[:count])


def cores() -> list[int]:
    """Returns the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [*range(os.cpu_count() or 1)]


def facts() -> dict[str, Any]:
    """Returns what a reader needs to judge the figures and to compare them with others."""
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "cpu": processor_name(),
        "cores": cores(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "packages": {name: found for name in PACKAGES if (found := _version(name))},
    }


def warn_if_busy() -> None:
    """Warns if other programs will disturb the figures."""
    load = os.getloadavg()[0]
    if load > QUIET_LOAD:
        print(f"warning: the machine is not quiet (load {load:.1f}); figures will be wrong", file=sys.stderr)


@contextmanager
def a_busy_core() -> Iterator[None]:
    """Runs another process that computes all the time, as much as one core can."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
