"""Which cores of a CPU compute a network: all of them together, or one while the others are busy.

Threads that compute together wait for the slowest one after each of a network's hundreds of layers. While another
process has one of the cores, they take many times as long, and one core alone is faster. So workers with one core each
compute on their own while all have work. A worker that has work alone takes all cores.
"""

import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .calls import Network
from .core_lending import Neighbour

LARGEST_ON_ONE = 4  # images, where foreign processes are busy; larger batches wait less often for each image
CROWDED_SECONDS = 1.0  # how long one core computes, until all are tried again
WEIGHT = 0.25  # of the last call in the average slowness


class ParallelNetwork:
    """A network, called with a batch of arguments.

    Args:
        neighbour: the worker on the other core. If it exists, the threads that call this have one core, else all.
        may_choose: whether the network can be computed by another number of cores than its caller has.

    Attributes:
        choices: the batch sizes that either one core or all may compute; see `find_choices`.
    """

    def __init__(self, network: Network, neighbour: Neighbour, *, may_choose: bool) -> None:
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
        with self._neighbour.at_rest() as all_free:
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
