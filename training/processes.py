"""The processes that train together, as torchrun starts them; a lone one is one of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

# The others wait while the first reads images, saves or draws a sheet; torchrun ends them all if one of them dies.
PATIENCE = timedelta(hours=6)


@dataclass(frozen=True)
class Processes:
    """A group of processes, seen from one of them.

    Attributes:
        rank: of this one, 0..count-1.
        count: of all.
    """

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """The rows of a batch that this process computes."""
        size = batch_size // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, whose gradients become the mean over the processes as they arise."""
        if self.count == 1:
            return network
        device = next(network.parameters()).device
        ids = None if device.type == "cpu" else [device]
        return DistributedDataParallel(network, device_ids=ids, gradient_as_bucket_view=True)

    def gather(self, values: Tensor) -> Tensor:
        """Tensors of the same shape (K, n), joined to (K, n * count) in the order of ranks."""
        if self.count == 1:
            return values
        all_values = [torch.empty_like(values) for _ in range(self.count)]
        dist.all_gather(all_values, values.contiguous())
        return torch.cat(all_values, dim=1)

    def gather_states(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        """What each process has to say, in the order of ranks."""
        if self.count == 1:
            return [state]
        states: list[Any] = [None] * self.count
        dist.all_gather_object(states, state)
        return states

    def most(self, vote: int, device: torch.device) -> int:
        """The greatest of their votes; all get the same answer."""
        if self.count == 1:
            return vote
        votes = torch.tensor(vote, device=device)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return int(votes)

    def wait(self) -> None:
        """Until all are here."""
        if self.count > 1:
            dist.barrier()


ALONE = Processes()


def unsynchronised(network: nn.Module, really: bool) -> AbstractContextManager[None]:
    """Within it, gradients of a wrapped network stay with their process."""
    if really and isinstance(network, DistributedDataParallel):
        context: AbstractContextManager[None] = network.no_sync()
        return context
    return nullcontext()


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """The processes that torchrun started, or this one alone; and the device of this one.

    Each process of a machine takes a GPU of its own. On CPUs they talk by gloo.
    """
    if not dist.is_torchelastic_launched():
        yield ALONE, device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size()), device
    finally:
        dist.destroy_process_group()
