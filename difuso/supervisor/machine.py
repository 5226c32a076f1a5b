"""The GPUs and cores of this machine, for its workers. Nothing here needs torch, which takes a second to load."""

import logging
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0  # nvidia-smi takes a second for each GPU that its driver has put to sleep


@dataclass(frozen=True)
class Machine:
    """The devices that workers can use."""

    gpus: tuple[str, ...]  # the names of the GPUs to share out, as CUDA_VISIBLE_DEVICES has them
    on_cpu: bool  # whether workers compute on the cores, not on a GPU
    # the processors of each physical core that this process may use, neighbours on one NUMA node together; the sets are
    # empty where processes cannot be bound to processors
    cores: tuple[frozenset[int], ...]


def this_machine(device: str, environment: Mapping[str, str]) -> Machine:
    """Returns what workers with this environment can use; a `DIFUSO_DEVICE` of one GPU leaves none to share out."""
    may_use_any = device in ("auto", "cuda") and not version("torch").endswith("+cpu")  # PyTorch's build for CPUs
    gpus = visible_gpus(count_gpus(), environment.get("CUDA_VISIBLE_DEVICES")) if may_use_any else ()
    return Machine(gpus=gpus, on_cpu=device == "cpu" or (device == "auto" and not gpus), cores=find_cores())


def count_gpus(program: str = "nvidia-smi") -> int:
    """Returns the number of NVIDIA's GPUs that the driver shows us; 0 without a driver."""
    return sum(line.startswith("GPU ") for line in _listed_by(program, "-L"))  # their MIG instances follow, indented


def emptiest_gpu(device: str, environment: Mapping[str, str], program: str = "nvidia-smi") -> dict[str, str]:
    """Returns the variable by which a process takes the GPU with most free memory; empty if its GPU is chosen already.

    Asking torch would take some hundred megabytes of each.
    """
    if device not in ("auto", "cuda") or "CUDA_VISIBLE_DEVICES" in environment:
        return {}
    lines = _listed_by(program, "--query-gpu=uuid,memory.free", "--format=csv,noheader,nounits")
    free = {uuid: int(mib) for uuid, _, mib in (line.partition(", ") for line in lines) if mib.isdecimal()}
    return {"CUDA_VISIBLE_DEVICES": max(free, key=lambda uuid: free[uuid])} if len(free) > 1 else {}


def _listed_by(program: str, *arguments: str) -> list[str]:
    """Returns the lines that nvidia-smi prints; none without a driver."""
    try:
        return subprocess.run(
            [program, *arguments], capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False
        ).stdout.splitlines()
    except FileNotFoundError:
        return []
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("GPUs are not counted: %s", error)
        return []


def visible_gpus(installed: int, visible: str | None) -> tuple[str, ...]:
    """Returns the names of the GPUs that a program may see.

    Args:
        installed: the number of GPUs.
        visible: the value of CUDA_VISIBLE_DEVICES, numbers or UUIDs; CUDA reads it up to the first that it does not
            know. None if it is unset.
    """
    if visible is None:
        return tuple(map(str, range(installed)))

    def exists(name: str) -> bool:
        return int(name) < installed if name.isdecimal() else installed > 0 and name.startswith(("GPU-", "MIG-"))

    return tuple(takewhile(exists, (name.strip() for name in visible.split(","))))


def find_cores() -> tuple[frozenset[int], ...]:
    """Returns the processors of each physical core that this process may use; see `Machine`."""
    if sys.platform != "linux":
        return (frozenset(),) * (os.cpu_count() or 1)
    return linux_cores(os.sched_getaffinity(0))


def linux_cores(allowed: Collection[int], root: Path = Path("/")) -> tuple[frozenset[int], ...]:
    """Groups processors by physical core.

    If the control group's quota of processor time pays for fewer cores, so many stand for any of the processors.

    Args:
        allowed: the processors that this process may use.
        root: the folder with the kernel's files.
    """
    system = root / "sys/devices/system"
    node_of = {
        processor: int(file.parent.name.removeprefix("node"))
        for file in system.glob("node/node[0-9]*/cpulist")
        for processor in _listed(file)
    }
    siblings = (_listed(system / f"cpu/cpu{each}/topology/thread_siblings_list") | {each} for each in allowed)
    cores = {frozenset(each) & frozenset(allowed) for each in siblings}
    ordered = sorted(cores, key=lambda core: (node_of.get(min(core), 0), min(core)))
    quota = _quota(root)
    if quota is None or quota >= len(ordered):
        return tuple(ordered)
    return (frozenset(allowed),) * quota  # it pays for any cores: the first ones would be those of every container


def _quota(root: Path) -> int | None:
    """Returns the number of processors that our control group (version 2) may keep busy, at least 1; None for all."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
        group = next(line.removeprefix("0::/") for line in lines if line.startswith("0::/"))
        quota, period = (root / "sys/fs/cgroup" / group / "cpu.max").read_text().split()
    except (OSError, StopIteration, ValueError):
        return None
    return None if quota == "max" else max(1, int(quota) // int(period))


def _listed(file: Path) -> set[int]:
    """Reads a list of processors such as 0-3,8; empty if there is no such file, as in some sandboxes."""
    try:
        ranges = [part.partition("-") for part in file.read_text().strip().split(",") if part]
    except OSError:
        return set()
    return {each for first, _, last in ranges for each in range(int(first), int(last or first) + 1)}
