"""The number of workers of a machine, and each worker's share of it.

Workers on one core would stall each other: a parallel loop of OpenMP waits for its slowest thread. So each worker of
several has cores of its own, or the kernel finds it some where a quota pays for few of many. All have the same number
of threads, because the bits of an image depend on it. Two workers of two cores lend each other theirs
(`worker.device.cores`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from difuso.errors import UserError

from .machine import Machine

# A rule, not measured on machines with so many cores: two threads make a small network 1.7 to 1.9 times as fast, and by
# Amdahl's law 16 threads 4.4 to 8.9 times; from there a second worker, which has its own batch, brings more.
CORES_PER_WORKER = 8
# Measured: two workers with a core each make a quarter more image-steps per second than one whose two threads wait for
# each other, and for whatever else runs.
LENT_CORES = 2


@dataclass(frozen=True)
class Share:
    """The share of one worker."""

    # the variables that give it its GPU and its number of threads
    environment: Mapping[str, str] = field(default_factory=dict)
    processors: frozenset[int] = frozenset()  # the processors that it is bound to; empty for all
    # 0 or 1 for each of two workers with a core each, which lend it to each other; None for others
    core: int | None = None

    def environment_in(self, folder: Path) -> dict[str, str]:
        """Returns all its variables; `folder` exists, and is for the workers of this machine."""
        lent = {} if self.core is None else {"DIFUSO_CORE_FOLDER": str(folder / f"worker.{self.core}")}
        return {**self.environment, **lent}


def share_out(machine: Machine, workers: int | None, threads: int | None = None) -> list[Share]:
    """Shares a machine out among workers. A lone worker has all of it, as `difuso worker` has.

    Args:
        workers: the number of workers; None for one per GPU, or on a CPU for one per `CORES_PER_WORKER` physical cores,
            and for two where there are two cores.
        threads: the number of threads of each worker; None for an equal share of the physical cores.

    Raises UserError if there are fewer cores than threads.
    """
    count = workers or _as_many_as_pay(machine, threads)
    if count == 1:
        # Torch itself counts all cores of the machine, whatever the quota of a control group.
        one_each = machine.on_cpu and threads is None and all(machine.cores) and machine.cores
        return [Share({"OMP_NUM_THREADS": str(len(machine.cores))} if one_each else {})]
    cores, fair = machine.cores, len(machine.cores) // count
    each = threads or max(1, fair)
    if machine.on_cpu and each > fair:
        otherwise = " or set a lower OMP_NUM_THREADS" if each > 1 else ""
        raise UserError(
            f"{count} workers need {count * each} cores, {each} for each, and there are {len(cores)}: "
            f"start fewer workers{otherwise}"
        )
    if machine.on_cpu and threads is None and count == len(cores) == LENT_CORES:
        # A binding would put both on the same core, and what is lent cannot be used then.
        return [Share({"OMP_NUM_THREADS": "1", "OMP_PROC_BIND": "false"}, core=core) for core in range(count)]
    shares = []
    for index in range(count):
        environment = {"OMP_NUM_THREADS": str(each)}
        if machine.gpus:
            environment["CUDA_VISIBLE_DEVICES"] = machine.gpus[index % len(machine.gpus)]
        own = cores[index * fair : index * fair + each] if machine.on_cpu else ()
        shares.append(Share(environment, frozenset().union(*own)))
    return shares


def threads_of(environment: Mapping[str, str]) -> int | None:
    """Returns the number of threads that OMP_NUM_THREADS sets; None if it sets none."""
    outermost = environment.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(outermost) if outermost.isdecimal() and int(outermost) else None


def _as_many_as_pay(machine: Machine, threads: int | None) -> int:
    if not machine.on_cpu:
        return len(machine.gpus) or 1
    if not all(machine.cores):
        return 1  # several workers that cannot be kept apart would stall each other
    if threads is None and len(machine.cores) == LENT_CORES:
        return LENT_CORES
    return max(1, len(machine.cores) // max(CORES_PER_WORKER, threads or 1))
