"""The processes that train together, as torchrun starts them; a single process is a group of one."""

import gc
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist

# DistributedDataParallel imports this module late, inside a group, which then stays for good as the default of its
# functions' arguments; and with the group its threads, which abort the process if they still work while Python ends.
import torch.distributed.nn.functional
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

# The others wait while the first reads images, saves or draws a sheet; torchrun ends all of them if one dies.
PATIENCE = timedelta(hours=6)


@dataclass(frozen=True)
class Processes:
    """A group of processes, seen from one of them."""

    rank: int = 0  # number of this process, 0..count-1
    count: int = 1  # number of processes

    @property
    def first(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def share(self, batch_size: int) -> slice:
        """The rows of a batch that this process computes."""
        size = batch_size // self.count
        return slice(self.rank * size, (self.rank + 1) * size)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Wraps a network so that its gradients become their mean over the processes during the backward pass."""
        if self.count == 1:
            return network
        device = next(network.parameters()).device
        ids = None if device.type == "cpu" else [device]
        return DistributedDataParallel(network, device_ids=ids, gradient_as_bucket_view=True)

    def gather(self, values: Tensor) -> Tensor:
        """Joins the processes' tensors, each of shape (K, n), to (K, n * count) in the order of ranks."""
        if self.count == 1:
            return values
        all_values = [torch.empty_like(values) for _ in range(self.count)]
        dist.all_gather(all_values, values.contiguous())
        return torch.cat(all_values, dim=1)

    def gather_states(self, state: dict[str, Any]) -> list[dict[str, Any]]:
        """Collects the states of all processes, in the order of ranks."""
        if self.count == 1:
            return [state]
        states: list[Any] = [None] * self.count
        dist.all_gather_object(states, state)
        return states

    def most(self, vote: int, device: torch.device) -> int:
        """Returns the largest vote of all processes, the same on each."""
        if self.count == 1:
            return vote
        votes = torch.tensor(vote, device=device)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return int(votes)

    def wait(self) -> None:
        """Waits until all processes have called this."""
        if self.count > 1:
            dist.barrier()


ALONE = Processes()


def unsynchronised(network: nn.Module, really: bool) -> AbstractContextManager[None]:
    """Returns a context in which, if `really`, the gradients of a wrapped network stay with their process."""
    if really and isinstance(network, DistributedDataParallel):
        return network.no_sync()
    return nullcontext()


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Yields the processes that torchrun started, by gloo on CPUs, or this one alone, and the device of this one.

    Whatever has wrapped a network by then must be forgotten before the context ends.
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
        # A wrapped network that is freed after the group has the last reference to it, and then waits for the group's
        # threads while it holds Python's lock, which these may need.
        gc.collect()
        dist.destroy_process_group()
