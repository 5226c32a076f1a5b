"""Memory: the C library keeps what is freed, and tensors are copied between a device and the CPU.

A network's layers take and free the same megabytes at every call. By default glibc returns them to the operating system
each time, which has to clear them anew: a quarter of a call's time with eight images. Elsewhere nothing changes.
"""

import ctypes
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

# Options of mallopt (malloc.h), with the largest values that it takes.
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
LARGEST_TRIM, LARGEST_MMAP = 2**31 - 1, 32 << 20


@cache
def keep_freed_memory() -> None:
    """Lets this process keep freed memory, in blocks of up to 32 MB, for its next needs."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(TRIM_THRESHOLD, LARGEST_TRIM)
        mallopt(MMAP_THRESHOLD, LARGEST_MMAP)


def give_back() -> None:
    """Returns free pages, which glibc keeps in the gaps of the heap, to the system. It takes about 1 ms."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def move(network: nn.Module, device: torch.device) -> nn.Module:
    """Moves a network to a device, its weights of four dimensions in the memory format `channels_last`; returns it.

    PyTorch's own `Module.to` refuses a network that also has weights of five dimensions, as convolutions of volumes do.
    """
    network = network.to(device)
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim == 4:
            tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
    return network


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies a tensor to a device, unless it is there; to a GPU from pinned memory: the host does not wait."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)  # an expanded one cannot be pinned


def download(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies tensors to the CPU, unless they are there, and waits once for all of them."""
    copies = [tensor.to("cpu", non_blocking=tensor.is_cuda) for tensor in tensors]
    for device in {tensor.device for tensor in tensors if tensor.is_cuda}:
        torch.cuda.current_stream(device).synchronize()
    return copies
