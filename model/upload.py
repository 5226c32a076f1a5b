"""Copies to a device that the host does not wait for."""

from __future__ import annotations

import torch
from torch import Tensor


def upload(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies a tensor to a device, unless it is there.

    A GPU takes the copy after what it was asked for before, and the host goes on. The memory that it copies from is
    pinned, for from any other it would be copied while the host waits for all that.
    """
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.contiguous().pin_memory().to(device, non_blocking=True)  # an expanded one cannot be pinned
