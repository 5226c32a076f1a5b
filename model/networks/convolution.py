"""A convolution that gives an image the same bits in a batch of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Convolution(nn.Conv2d):
    """A convolution that is computed by oneDNN on every CPU that has it, unless it trains.

    PyTorch itself chooses between oneDNN and kernels of its own by the size of the batch and the number of threads: one
    small image, or sixteen of fewer in a 1x1 convolution on one thread, would get other bits than the same image in a
    larger batch. oneDNN's bits depend on neither.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns shape (B, out_channels, H', W').

        Args:
            x: shape (B, in_channels, H, W).
        """
        if self.training or not _by_onednn(x):
            return super().forward(x)
        assert not isinstance(self.padding, str)
        return torch.mkldnn_convolution(
            x, self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups
        )


def _by_onednn(x: Tensor) -> bool:
    """Returns whether oneDNN can be called for an input: not by autocast, which casts no arguments of this call."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
