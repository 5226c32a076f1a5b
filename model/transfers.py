"""Copies between a device and the CPU."""

from collections.abc import Sequence

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies a tensor to a device, unless it is there.

    A GPU makes the copy after its earlier work, and the host continues. The copy comes from pinned memory, because the
    host would wait for a copy from any other memory.
    """
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)  # an expanded one cannot be pinned


def download(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Copies tensors to the CPU, unless they are there, and waits once for all of them."""
    copies = [tensor.to("cpu", non_blocking=tensor.is_cuda) for tensor in tensors]
    for device in {tensor.device for tensor in tensors if tensor.is_cuda}:
        torch.cuda.current_stream(device).synchronize()
    return copies
