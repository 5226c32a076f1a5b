"""The machine that figures belong to: the cores in use, the load of other programs."""

import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
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


def processor_seconds() -> float:
    """Returns the processor time of all descendants of this process so far, in seconds; NaN where /proc has none."""
    if not Path("/proc/self/task").exists():
        return math.nan
    pids = [os.getpid()]
    for pid in pids:  # which grows
        with suppress(FileNotFoundError, ProcessLookupError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                pids += map(int, (task / "children").read_text().split())
    return sum(map(_processor_seconds, pids[1:]))


def _processor_seconds(pid: int) -> float:
    with suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


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
