"""Which cores of a CPU compute a network: all of them together, or one while the others are busy.

Threads that compute together wait for the slowest one after each of a network's hundreds of layers. While another
process has one of the cores, they take many times as long, and one core alone is faster. So workers with one core each
compute on their own while all have work. A worker that has work alone takes all cores.

A thread that computes with several cores keeps a team of OpenMP threads for as long as it lives. With more teams than
cores the runtime lets them sleep between two parallel loops, and a call of a small network takes half as long again. So
only the engine's thread, and threads that load a model and end, compute with all cores.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock

import torch
from torch import Tensor

from .calls import Network

PATIENCE_SECONDS = 2.0  # with a neighbour that may be frozen; a call takes less than a second with most networks
POLL_SECONDS = 0.001
LARGEST_ON_ONE = 4  # images, where foreign processes are busy; larger batches wait less often for each image
CROWDED_SECONDS = 1.0  # how long one core computes, until all are tried again
WEIGHT = 0.25  # of the last call in the average slowness


@cache
def all_cores() -> int:
    """The number of cores that torch uses by default; call it before any thread changes that."""
    return torch.get_num_threads()


def use_all_cores() -> None:
    """Lets this thread compute with all cores."""
    _use(all_cores())


def use_one_core() -> None:
    """Lets this thread, and those that begin later, compute with one core, until `use_all_cores` is called."""
    all_cores()
    _use(1)


def _use(cores: int) -> None:
    torch.get_num_threads()  # at its first call a thread adopts what another thread has set last
    torch.set_num_threads(cores)


class Core:
    """The core of one of two workers that share two cores; one that has work alone may compute on both.

    A worker locks the file `work` for as long as it has work. Whoever computes on its core locks `use`: the worker
    itself while it has work, or the other worker for one call of a network. The system frees the locks of a dead
    process.

    Args:
        folder: the folder of these files; None if the worker shares the machine with no other.
    """

    def __init__(self, folder: Path | None) -> None:
        self.exists = folder is not None
        self._files = () if folder is None else _open(folder)
        self._mutex = Lock()
        self._holders = 0
        self._patience = PATIENCE_SECONDS

    def take(self) -> None:
        """Takes the worker's own core for one more holder; waits for the call for which the neighbour borrowed it.

        It waits at most PATIENCE_SECONDS, because the neighbour may be frozen. After that both workers use the core.
        """
        with self._mutex:
            self._holders += 1
            if self._holders > 1 or not self._files:
                return
            work, use = self._files
            fcntl.flock(work, fcntl.LOCK_EX)  # the neighbour holds it for a moment only
            give_up_at = time.monotonic() + self._patience
            while not (taken := _lock(use)) and time.monotonic() < give_up_at:
                time.sleep(POLL_SECONDS)
            self._patience = PATIENCE_SECONDS if taken else 0.0

    def leave(self) -> None:
        """Lets the neighbour borrow the core, once all holders have left it."""
        with self._mutex:
            self._holders -= 1
            if not self._holders:
                for file in self._files:
                    fcntl.flock(file, fcntl.LOCK_UN)

    @contextmanager
    def borrowed(self) -> Iterator[bool]:
        """Borrows the neighbour's core for the length of a block; yields False, and borrows nothing, if it has work."""
        if not self._files:
            yield True
            return
        work, use = self._files
        try:
            free = _lock(use) and _lock(work)
            fcntl.flock(work, fcntl.LOCK_UN)
            yield free
        finally:
            fcntl.flock(use, fcntl.LOCK_UN)


@cache
def core_of(folder: Path | None) -> Core:
    """Returns the core of the worker with this folder, the same one each time."""
    return Core(folder)


@cache
def neighbour_of(folder: Path | None) -> Core:
    """Returns the core of the other worker; `worker.0` and `worker.1` are neighbours."""
    return Core(folder and folder.with_suffix(".1" if folder.suffix == ".0" else ".0"))


def _open(folder: Path) -> tuple[int, ...]:
    folder.mkdir(exist_ok=True)
    return tuple(os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o600) for name in ("work", "use"))


def _lock(file: int) -> bool:
    """Locks a file, unless somebody else has; returns whether it did."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class ParallelNetwork:
    """A network, called with a batch of arguments.

    Args:
        neighbour: the core of the other worker. If it exists, the threads that call this have one core, else all.
        may_choose: whether the network can be computed by another number of cores than its caller has.

    Attributes:
        choices: the batch sizes that either one core or all may compute; see `find_choices`.
    """

    def __init__(self, network: Network, neighbour: Core, *, may_choose: bool) -> None:
        self._network = network
        self._neighbour = neighbour
        self._own_cores = torch.get_num_threads()
        self._cores = 2 if neighbour.exists else self._own_cores
        self._may_choose = may_choose and self._cores > 1
        self.choices: frozenset[int] = frozenset()
        self._fastest: dict[int, float] = {}
        self._slowness = 1.0
        self._crowded_until = 0.0

    def __call__(self, *batch: Tensor) -> Tensor:
        size = len(batch[0])
        if size not in self.choices:
            return self._network(*batch)
        with self._neighbour.borrowed() as all_free:
            if all_free and not (size <= LARGEST_ON_ONE and time.monotonic() < self._crowded_until):
                started = time.perf_counter()
                out = self._with(self._cores, *batch)
                self._learn(size, time.perf_counter() - started)
                return out
        return self._with(1, *batch)

    @torch.inference_mode()
    def find_choices(self, outs: Mapping[int, Tensor], batch: Sequence[Tensor], *, exact: bool) -> None:
        """Computes batches with the other number of cores, too, and notes those whose bits are the same.

        Args:
            outs: the outputs, by the cores of the caller, of the first images of a batch, by their number.
            exact: whether bits matter.
        """
        if not self._may_choose:
            return
        sizes = [size for size in outs if self._neighbour.exists or size <= LARGEST_ON_ONE]
        cores = self._cores if self._neighbour.exists else 1
        others = {size: self._with(cores, *(each[:size] for each in batch)) for size in sizes}
        self.choices = frozenset(size for size in sizes if not exact or torch.equal(others[size], outs[size]))

    def _with(self, cores: int, *batch: Tensor) -> Tensor:
        torch.set_num_threads(cores)
        try:
            return self._network(*batch)
        finally:
            torch.set_num_threads(self._own_cores)

    def _learn(self, size: int, seconds: float) -> None:
        """Keeps the average slowness. If N cores are N times as slow as usual, one core alone is not slower."""
        fastest = self._fastest[size] = min(seconds, self._fastest.get(size, seconds))
        slowness = min(seconds / fastest, 2.0 * self._cores)  # so that a single pause is not enough
        self._slowness += WEIGHT * (slowness - self._slowness)
        if self._slowness > self._cores:
            self._crowded_until = time.monotonic() + CROWDED_SECONDS
