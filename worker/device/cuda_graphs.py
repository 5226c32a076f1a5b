"""A network as CUDA graphs: all kernels of a call are started at once, where Python would start one after another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple
from weakref import WeakSet

import torch
from torch import Tensor

from .calls import Network

log = logging.getLogger(__name__)

WARM_CALLS = 3  # before a recording, in which libraries choose their kernels and allocate what they keep
STREAMS = 32  # that PyTorch has; it gives them out in turn


class Recording(NamedTuple):
    """A call that can be repeated: `replay` computes `out` again from `inputs`."""

    inputs: list[Tensor]
    out: Tensor
    replay: Callable[[], None]


class GraphRecorder:
    """Records calls of one network on a GPU, with one pool of memory for all: no two of them run at once.

    cuBLAS keeps memory for each stream, which is freed with the graphs that were recorded on it. So each recorder has a
    stream on which no other one records (PyTorch issue 193402). With too many recorders there is a RuntimeError.
    """

    _alive: ClassVar[WeakSet[GraphRecorder]] = WeakSet()

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = self._unused_stream()
        self._alive.add(self)

    def __call__(self, network: Network, batch: Sequence[Tensor]) -> Recording:
        """Records a call with a batch of this shape.

        Raises RuntimeError if the network does what a graph cannot hold, such as reading a result on the CPU.
        """
        # The inner one puts the stream of this thread back if the recording fails, which PyTorch's own context forgets.
        with torch.cuda.device(self._device), torch.cuda.stream(torch.cuda.current_stream(self._device)):
            inputs = [each.clone() for each in batch]
            for _ in range(WARM_CALLS):
                network(*inputs)
            graph = torch.cuda.CUDAGraph()
            # Other threads of the worker copy results meanwhile, which is no part of this recording.
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                out = network(*inputs)
        return Recording(inputs, out, graph.replay)

    def _unused_stream(self) -> torch.cuda.Stream:
        used = {other._stream.cuda_stream for other in self._alive}
        for _ in range(STREAMS):
            stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
            if stream.cuda_stream not in used:
                return stream
        raise RuntimeError("no CUDA stream is left")


class GraphedNetwork:
    """A network, called with a batch of arguments of one of the sizes that were recorded, the largest like `batch`.

    Raises RuntimeError if it cannot be recorded, or if a replay gives other bits than the network.
    """

    def __init__(
        self,
        network: Network,
        record: Callable[[Network, Sequence[Tensor]], Recording],
        batch: Sequence[Tensor],
        sizes: Sequence[int],
    ) -> None:
        self._record = record  # kept, because its stream is taken as long as it lives
        self._recordings: dict[int, Recording] = {}
        for size in sorted(sizes, reverse=True):  # the memory of a large one holds the small ones, too
            self._recordings[size] = record(network, [torch.zeros_like(each[:size]) for each in batch])
            other = [each[:size] for each in batch]
            if not torch.equal(self(*other), network(*other)):
                raise RuntimeError(f"a graph of {size} images gives other bits than the network")

    def __call__(self, *batch: Tensor) -> Tensor:
        """Returns the output, in memory of its own."""
        inputs, out, replay = self._recordings[len(batch[0])]
        for kept, given in zip(inputs, batch, strict=True):
            kept.copy_(given)
        replay()
        return out.clone()


def graphed(network: Network, device: torch.device, batch: Sequence[Tensor], sizes: Sequence[int]) -> Network:
    """Returns a network as graphs, or unchanged if it cannot be recorded; AcceleratorError if the device was lost."""
    try:
        return GraphedNetwork(network, GraphRecorder(device), batch, sizes)
    except RuntimeError as error:  # too little memory is one, too
        log.warning("going on without CUDA graphs: %s", error)
    torch.cuda.empty_cache()
    torch.cuda.synchronize(device)
    return network
