"""A convolution that gives an image the same bits in a batch of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn

PACKED_BYTES = 256 << 20


class Convolution(nn.Conv2d):
    """A convolution that is computed by oneDNN on every CPU that has it, unless it trains.

    PyTorch itself chooses between oneDNN and kernels of its own by the size of the batch and the number of threads: one
    small image, or sixteen of fewer in a 1x1 convolution on one thread, would get other bits than the same image in a
    larger batch. oneDNN's bits depend on neither.
    """

    _packed: Tensor | None = None  # the weight as oneDNN wants it

    def forward(self, x: Tensor) -> Tensor:
        """Returns shape (B, out_channels, H', W').

        Args:
            x: shape (B, in_channels, H, W).
        """
        if self.training:
            return super().forward(x)
        x = x.to(self.weight.dtype)
        if not _by_onednn(x):
            return super().forward(x)
        assert not isinstance(self.padding, str)
        how = self.padding, self.stride, self.dilation, self.groups
        if self._packed is None or x.requires_grad:
            return torch.mkldnn_convolution(x, self.weight, self.bias, *how)
        out: Tensor = torch.ops.mkldnn._convolution_pointwise(x, self._packed, self.bias, *how, "none", [], "")
        return out

    def pack(self) -> None:
        """Lets oneDNN arrange the weight now, which it otherwise does at each call."""
        how = self.padding, self.stride, self.dilation, self.groups
        self._packed = torch.ops.mkldnn._reorder_convolution_weight(self.weight.detach(), *how, None)


class LastConvolution(Convolution):
    """The convolution that makes a network's output, which is float32 whatever the number format of its features."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype))


def pack_convolutions(network: nn.Module) -> None:
    """Lets oneDNN arrange the weights of all convolutions once; for a network on a CPU whose weights do not change.

    Results are the same to rounding, and on most processors to the bit. Packed as unpacked, neither the size of the
    batch nor the number of threads changes them. The weights then take their memory twice. So large networks in
    float32, whose calls gain little, are not packed.
    """
    layers = [each for each in network.modules() if isinstance(each, Convolution)]
    doubled = sum(each.weight.nbytes for each in layers if each.weight.dtype == torch.float32)
    if doubled <= PACKED_BYTES and all(_by_onednn(each.weight) for each in layers):
        for each in layers:
            each.pack()


def _by_onednn(x: Tensor) -> bool:
    """Returns whether oneDNN can be called for a tensor: not by autocast, which casts no arguments of this call."""
    return (
        not torch.compiler.is_compiling()  # asked first, because a compiler does not know the others
        and x.device.type == "cpu"
        and (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and _knows_bfloat16()))
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and not torch.is_autocast_enabled("cpu")
    )


def _knows_bfloat16() -> bool:
    """Returns whether oneDNN computes in bfloat16 on this processor, at whatever speed; PyTorch itself always does."""
    known: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return known
