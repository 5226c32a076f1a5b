"""Which cores of a CPU compute a network: all of them together, or for small batches one while the others are busy.

Threads that compute together wait for the slowest after each of a network's hundreds of layers. While another process
has one of the cores, they take many times as long, and one core alone is faster.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

from .cores import use_one_core

LARGEST_ON_ONE = 4  # images; larger batches wait less often for each image
CROWDED_SECONDS = 1.0  # how long one core computes, until all are tried again
WEIGHT = 0.25  # of the last call in the average slowness

Network = Callable[..., Tensor]


class ParallelNetwork:
    """A network on a CPU, called with a batch of arguments.

    Args:
        network: the network.
        cores: number of cores that the threads which call it use.

    Attributes:
        may_use_one: whether one core may compute a small batch. Not before it is known to give the same bits.
    """

    def __init__(self, network: Network, cores: int) -> None:
        self._network = network
        self.cores = cores
        self.may_use_one = False
        self._fastest: dict[int, float] = {}
        self._slowness = 1.0
        self._crowded_until = 0.0

    def __call__(self, *batch: Tensor) -> Tensor:
        size = len(batch[0])
        if self.may_use_one and size <= LARGEST_ON_ONE and time.monotonic() < self._crowded_until:
            return self.on_one_core(*batch)
        started = time.perf_counter()
        out = self._network(*batch)
        self._learn(size, time.perf_counter() - started)
        return out

    def on_one_core(self, *batch: Tensor) -> Tensor:
        """Computes on one core."""
        return _thread().submit(_infer, self._network, *batch).result()

    def _learn(self, size: int, seconds: float) -> None:
        """Keeps the average slowness: as many times as there are cores, one core is not slower than all of them."""
        fastest = self._fastest[size] = min(seconds, self._fastest.get(size, seconds))
        slowness = min(seconds / fastest, 2.0 * self.cores)  # so that a single pause is not enough
        self._slowness += WEIGHT * (slowness - self._slowness)
        if self._slowness > self.cores:
            self._crowded_until = time.monotonic() + CROWDED_SECONDS


@cache
def _thread() -> ThreadPoolExecutor:
    """The thread that all networks share."""
    return ThreadPoolExecutor(1, "one core", initializer=use_one_core)


@torch.inference_mode()
def _infer(network: Network, *batch: Tensor) -> Tensor:
    return network(*batch)
