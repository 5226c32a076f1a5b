"""A convolution that gives an image the same bits in a batch of any size."""

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor, nn

PACKED_BYTES = 256 << 20


class Convolution(nn.Conv2d):
    """A convolution that is computed by oneDNN on every CPU that has it, unless it trains.

    PyTorch itself chooses between oneDNN and kernels of its own by the size of the batch and the number of threads: one
    small image, or sixteen of fewer in a 1x1 convolution on one thread, would get other bits than the same image in a
    larger batch. oneDNN's bits depend on neither.
    """

    _packed: dict[Hashable, Tensor] | None = None  # the weight as oneDNN wants it, by what the order depends on

    def forward(self, x: Tensor) -> Tensor:
        """Returns shape (B, out_channels, H', W'), of shape (B, in_channels, H, W)."""
        if self.training:
            return super().forward(x)
        x = x.to(self.weight.dtype)
        if not _by_onednn(x):
            return super().forward(x)
        assert not isinstance(self.padding, str)
        how = self.padding, self.stride, self.dilation, self.groups
        if self._packed is None or x.requires_grad:
            return torch.mkldnn_convolution(x, self.weight, self.bias, *how)
        # In bfloat16 one order for all sizes would be slow at some, up to fifty times; and in any order the bits agree.
        size = None if x.dtype == torch.float32 else (*x.shape, torch.get_num_threads())
        packed = self._packed.get(size)
        if packed is None:
            packed = self._packed[size] = self._pack(x.shape)
        return torch.ops.mkldnn._convolution_pointwise(x, packed, self.bias, *how, "none", [], "")

    def pack(self) -> None:
        """Lets oneDNN arrange the weight once instead of at each call: in bfloat16 at the first call of each size."""
        self._packed = {} if self.weight.dtype == torch.bfloat16 else {None: self._pack(None)}

    def _pack(self, size: Sequence[int] | None) -> Tensor:
        """Returns the weight in the order for inputs of this shape; one tensor for all shapes of the same order."""
        how = self.padding, self.stride, self.dilation, self.groups
        packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(self.weight.detach(), *how, size)
        order: Hashable = bytes(torch.ops.mkldnn._get_mkldnn_serialized_md(packed).tolist())
        return packed if self._packed is None else self._packed.setdefault(order, packed)


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
    float32, whose calls gain little, are not packed. Nor is a layer whose weight is made at each call.
    """
    layers = [each for each in network.modules() if isinstance(each, Convolution) and _has_fixed_weight(each)]
    doubled = sum(each.weight.nbytes for each in layers if each.weight.dtype == torch.float32)
    if doubled <= PACKED_BYTES and all(_by_onednn(each.weight) for each in layers):
        for each in layers:
            each.pack()


def _has_fixed_weight(layer: Convolution) -> bool:
    """Returns whether no hook makes the weight before each call, as those of `weight_norm` and `spectral_norm`.

    Until the first call such a weight is that of a new network, and does not follow from the weights of the model.
    """
    return "weight" in layer._parameters and not layer._forward_pre_hooks


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
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()
