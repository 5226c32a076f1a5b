"""How a network uses the cores of a CPU: in parts of a batch, on all cores together, or on one.

On all cores together they wait for the slowest after each of a network's hundreds of layers. That takes as long as a
layer of a small network, and far longer while another process has one of the cores. So a batch that is large enough is
computed in parts, one on each core, which wait for each other once. A smaller one is computed on all cores together,
but on one while the others are found busy.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache, partial

import torch
from torch import Tensor

from .batch_sizes import timed
from .cores import use_one_core

SMALLEST_PART = 2  # images; fewer are computed faster on all cores together
AS_FAST = 1.1  # times as long as on all cores together; parts, which other processes hold up less, may take it
CROWDED_SECONDS = 1.0  # how long small batches keep to one core
WEIGHT = 0.25  # of the last call in the average slowness

Network = Callable[..., Tensor]


class ParallelNetwork:
    """A network on a CPU, called with a batch of arguments.

    Args:
        network: the network.
        cores: number of cores that the threads which call it use; with 1 it is only called.

    Attributes:
        may_use_one: whether small batches may be computed on one core, which some networks do with other bits.
    """

    def __init__(self, network: Network, cores: int) -> None:
        self._network = network
        self._cores = cores
        self._splits = cores > 1
        self.may_use_one = cores > 1
        self._fastest: dict[int, float] = {}
        self._slowness = 1.0
        self._crowded_until = 0.0

    def __call__(self, *batch: Tensor) -> Tensor:
        size = len(batch[0])
        if self._cores == 1:
            return self._network(*batch)
        if self.is_split(size):
            return self._in_parts(self._cores, batch)
        if self.may_use_one and time.monotonic() < self._crowded_until:
            return self.on_one_core(*batch)
        started = time.perf_counter()
        out = self._network(*batch)
        self._learn(size, time.perf_counter() - started)
        return out

    def choose(self, *batch: Tensor) -> Tensor:
        """Splits batches only if it gives the same bits and takes no longer; tries it with one of the largest size.

        Returns the output.
        """
        size = len(batch[0])
        if not (self.is_split(size) and self.can_take(size)):
            self._splits = False
            return self._network(*batch)
        whole, together = timed(partial(self._network, *batch))
        split, apart = timed(partial(self._in_parts, self._cores, batch))
        self._splits = torch.equal(whole, split) and apart < AS_FAST * together
        return whole

    def is_split(self, size: int) -> bool:
        """Returns whether a batch of this size is computed in parts."""
        return self._splits and size >= SMALLEST_PART * self._cores

    def can_take(self, size: int) -> bool:
        """Returns whether a batch of this size, if split, has parts of one size, on which bits may depend."""
        return not self.is_split(size) or size % self._cores == 0

    def on_one_core(self, *batch: Tensor) -> Tensor:
        """Computes the whole batch on one core."""
        return self._in_parts(1, batch)

    def _in_parts(self, count: int, batch: tuple[Tensor, ...]) -> Tensor:
        parts = zip(*(each.chunk(count) for each in batch), strict=True)
        running = [_threads(self._cores).submit(_infer, self._network, *part) for part in parts]
        wait(running)  # for all, so that none goes on when the error of another is raised
        return torch.cat([each.result() for each in running])

    def _learn(self, size: int, seconds: float) -> None:
        """Keeps the average slowness: as many times as there are cores, one core is not slower than all of them."""
        fastest = self._fastest[size] = min(seconds, self._fastest.get(size, seconds))
        slowness = min(seconds / fastest, 2.0 * self._cores)  # so that a single pause is not enough
        self._slowness += WEIGHT * (slowness - self._slowness)
        if self._slowness > self._cores:
            self._crowded_until = time.monotonic() + CROWDED_SECONDS


@cache
def _threads(cores: int) -> ThreadPoolExecutor:
    """The threads that all networks share, one for each core."""
    return ThreadPoolExecutor(cores, "part", initializer=use_one_core)


@torch.inference_mode()
def _infer(network: Network, *part: Tensor) -> Tensor:
    return network(*part)
