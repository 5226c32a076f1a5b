"""A network as CUDA graphs: all kernels of a call are started at once, where Python would start one after another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

log = logging.getLogger(__name__)

WARM_CALLS = 3  # before a recording, in which libraries choose their kernels and allocate what they keep

Network = Callable[..., Tensor]


class Recording(NamedTuple):
    """A call that can be repeated: `replay` computes `out` anew from what is in `inputs`."""

    inputs: list[Tensor]
    out: Tensor
    replay: Callable[[], None]


class GraphRecorder:
    """Records calls of one network on a GPU, with one pool of memory for all: no two of them run at once."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(self, network: Network, batch: Sequence[Tensor]) -> Recording:
        """Records a call with a batch of this shape.

        Raises:
            RuntimeError: if the network does what a graph cannot hold, such as to look at a result on the CPU.
        """
        inputs = [each.clone() for each in batch]
        ahead = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        ahead.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(ahead):
            for _ in range(WARM_CALLS):
                network(*inputs)
        torch.cuda.current_stream().wait_stream(ahead)
        graph = torch.cuda.CUDAGraph()
        # Other threads of the worker copy results meanwhile, which is no part of this recording.
        with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
            out = network(*inputs)
        return Recording(inputs, out, graph.replay)


class GraphedNetwork:
    """A network, called with a batch of arguments; each batch size is recorded at its first call.

    A network that cannot be recorded is called as it is.

    Args:
        network: the network.
        record: records a call of it.
    """

    def __init__(self, network: Network, record: Callable[[Network, Sequence[Tensor]], Recording]) -> None:
        self._network = network
        self._record = record
        self._recordings: dict[int, Recording] = {}
        self._can_be_recorded = True

    def __call__(self, *batch: Tensor) -> Tensor:
        """Returns the output, in memory of its own."""
        size = len(batch[0])
        if self._can_be_recorded and size not in self._recordings:
            try:
                self._recordings[size] = self._record(self._network, batch)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                log.warning("going on without CUDA graphs: %s", error)
                self._can_be_recorded = False
                self._recordings.clear()
        if not self._can_be_recorded:
            return self._network(*batch)
        inputs, out, replay = self._recordings[size]
        for kept, given in zip(inputs, batch, strict=True):
            kept.copy_(given, non_blocking=True)
        replay()
        return out.clone()


def graphed(network: Network, device: torch.device) -> Network:
    """Returns the network as CUDA graphs on a GPU, and as it is elsewhere."""
    return GraphedNetwork(network, GraphRecorder()) if device.type == "cuda" else network
