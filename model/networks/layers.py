"""The layers of several networks, which give an image the same bits in a batch of any size, and their number format.

In bfloat16 are features, from the first convolution to the last one. In float32 remain what is small, or where rounding
shows: the embeddings of time and class, the sums of normalisations (but those of `edm2_unet`), softmax and the last
convolution, so that the output is float32 too. No weight is cast in a call: layers whose weights are float32
(`LastConvolution`, `RowLinear` and normalisations) cast their input, and where an embedding meets features, its few
numbers are cast.
"""

import math
from collections.abc import Callable, Hashable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configs import TimeOrder
from .sigma_configs import Filter

ROWS = 16  # in one product of a `RowLinear`
FEW = 64  # positions up to which PyTorch's gradient in bfloat16 on a CPU takes three to nine times as long as ours
PACKED_BYTES = 256 << 20
LARGE_MAP = 1024  # positions from which PyTorch's kernel of a CPU reads bfloat16 in whole vectors; below it is slow


class Convolution(nn.Conv2d):
    """A convolution that is computed by oneDNN on every CPU that has it, unless it trains.

    PyTorch itself chooses kernels by the size of the batch and the number of threads, so that an image would get other
    bits alone than in a larger batch. oneDNN's bits depend on neither.
    """

    _packed: dict[Hashable, Tensor] | None = None  # the weight as oneDNN wants it, by what the order depends on

    def forward(self, x: Tensor) -> Tensor:
        """Returns shape (B, out_channels, H', W'), of shape (B, in_channels, H, W)."""
        if self.training:
            return super().forward(x)
        x = x.to(self.weight.dtype)
        if not _by_onednn(x):
            return super().forward(x)
        if self._packed is None or x.requires_grad:
            return torch.mkldnn_convolution(x, self.weight, self.bias, *self._how)
        # In bfloat16 one order for all sizes would be slow at some, up to fifty times; and in any order the bits agree.
        size = None if x.dtype == torch.float32 else (*x.shape, torch.get_num_threads())
        packed = self._packed.get(size)
        if packed is None:
            packed = self._packed[size] = self._pack(x.shape)
        return torch.ops.mkldnn._convolution_pointwise(x, packed, self.bias, *self._how, "none", [], "")

    @property
    def _how(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], int]:
        assert not isinstance(self.padding, str)
        return self.padding, self.stride, self.dilation, self.groups

    def pack(self) -> None:
        """Lets oneDNN arrange the weight once instead of at each call: in bfloat16 at the first call of each size."""
        self._packed = {} if self.weight.dtype == torch.bfloat16 else {None: self._pack(None)}

    def _pack(self, size: Sequence[int] | None) -> Tensor:
        """Returns the weight in the order for inputs of this shape; one tensor for all shapes of the same order."""
        packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(self.weight.detach(), *self._how, size)
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

    Results are the same to rounding, and on most processors to the bit. The weights then take their memory twice. So
    large networks in float32, whose calls gain little, are not packed. Nor is a layer whose weight a call makes.
    """
    layers = [each for each in network.modules() if isinstance(each, Convolution) and _has_fixed_weight(each)]
    doubled = sum(each.weight.nbytes for each in layers if each.weight.dtype == torch.float32)
    if doubled <= PACKED_BYTES and all(_by_onednn(each.weight) for each in layers):
        for each in layers:
            each.pack()


def bytes_of(network: nn.Module) -> int:
    """Returns the bytes of a network's weights, as often as they are kept."""
    tensors = [*network.parameters(), *network.buffers()]
    packed = (each for each in network.modules() if isinstance(each, Convolution))
    return sum(each.nbytes for each in tensors) + sum(len(each._packed or ()) * each.weight.nbytes for each in packed)


def _has_fixed_weight(layer: Convolution) -> bool:
    """Returns whether no hook makes the weight before each call, as those of `weight_norm` and `spectral_norm`."""
    return "weight" in layer._parameters and not layer._forward_pre_hooks


def _by_onednn(x: Tensor) -> bool:
    """Returns whether oneDNN can be called for a tensor: not by autocast, which casts no arguments of this call."""
    return (
        not torch.compiler.is_compiling()  # asked first, because a compiler does not know the others
        and x.device.type == "cpu"
        # PyTorch itself computes in bfloat16 on every processor, at whatever speed.
        and (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()))
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and not torch.is_autocast_enabled("cpu")
    )


class RowLinear(nn.Linear):
    """A linear layer for one vector of each image, such as a time embedding, which stays float32.

    A product of few rows is computed by other kernels than one of many. So it always multiplies sixteen rows, unless it
    trains; unused rows are zeros. The network's convolutions cost a thousand times as much.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns shape (B, out_features), of shape (B, in_features)."""
        x = x.to(self.weight.dtype)
        if self.training:
            with torch.autocast(x.device.type, enabled=False):
                return super().forward(x)
        return by_rows(lambda part: F.linear(part, self.weight, self.bias), x)


def by_rows(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Applies a function of each row of x to sixteen rows at a time; the rows that no image needs are zeros."""
    parts = F.pad(x, (0, 0) * (x.ndim - 1) + (0, -len(x) % ROWS)).split(ROWS)  # type: ignore[no-untyped-call]
    return torch.cat([function(part) for part in parts])[: len(x)]


class GroupNorm(nn.GroupNorm):
    """A normalisation in groups of channels that computes in float32; its output has the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == self.weight.dtype or (x.device.type == "cpu" and x[0, 0].numel() >= LARGE_MAP):
            return super().forward(x)
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """A normalisation of the last dimension that computes in float32; its output has the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class RMSNorm(nn.RMSNorm):
    """A division of the last dimension by its root mean square in float32; its output has the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


FLOAT32 = (RowLinear, LastConvolution, GroupNorm, LayerNorm, RMSNorm, nn.Embedding)  # in every network


def to_bfloat16(network: nn.Module) -> None:
    """Puts the weights of large layers in bfloat16. Inputs and outputs stay float32; training is no longer possible."""
    exact = exact_names(network)
    for path, module in network.named_modules():
        if isinstance(module, FLOAT32):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if f"{path}.{name}".removeprefix(".") not in exact:
                parameter.data = parameter.data.to(torch.bfloat16)


def exact_names(network: nn.Module) -> set[str]:
    """Returns the names in the state dict of the weights that a checkpoint keeps in float32, whatever its type.

    They are the frequencies and phases of Fourier embeddings. Multiplied by a timestep they are angles of many turns,
    so rounding one gives another angle. A module names its own such weights in `EXACT`.
    """
    return {
        f"{path}.{name}".removeprefix(".")
        for path, module in network.named_modules()
        for name in getattr(module, "EXACT", ())
    }


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Returns softmax(q kᵀ / √C) v for queries, keys and values of shape (B, heads, positions, C)."""
    is_training = torch.is_autocast_enabled("cpu") and q.requires_grad  # autocast is the trainer's, never the worker's
    if not is_training or q.shape[-2] > FEW:
        return F.scaled_dot_product_attention(q, k, v)
    products = (q @ k.mT).float() * q.shape[-1] ** -0.5
    return torch.softmax(products, -1).to(v.dtype) @ v


def sinusoidal_embedding(t: Tensor, dim: int, *, order: TimeOrder = "sin_cos", freq_shift: int = 0) -> Tensor:
    """Returns sines and cosines of t at geometric frequencies 1 ... 1/10000 (Vaswani et al. 2017, section 3.5).

    t has any number type, shape (B,), and the result is float32, shape (B, dim), with dim even. `order` says which half
    comes first. Frequency i of half = dim / 2 is 10000^(-i / (half - freq_shift)).
    """
    half = dim // 2
    exponents = -math.log(10000.0) * torch.arange(half, device=t.device, dtype=torch.float32) / (half - freq_shift)
    angles = t.float()[:, None] * torch.exp(exponents)
    halves = [angles.sin(), angles.cos()]
    return torch.cat(halves if order == "sin_cos" else halves[::-1], dim=1)


def halve(x: Tensor, resample: Filter = "box", *, padded: bool = False) -> Tensor:
    """Returns an image of half the height and width, by a filter of Karras et al. 2019 (section 4.2).

    x has the shape (B, C, H, W), or (B, C, H + 2, W + 2) if it is padded already; outside an image everything is 0.
    """
    if resample == "box":
        return F.avg_pool2d(x, 2)
    x = x if padded else F.pad(x, (1, 1, 1, 1))
    return _halve_rows(_halve_rows(x).mT).mT


def double(x: Tensor, resample: Filter = "box") -> Tensor:
    """Returns an image of twice the height and width, by a filter of `halve`."""
    if resample != "box":
        return _double_rows(_double_rows(x).mT).mT
    if not x.requires_grad:
        return F.interpolate(x, scale_factor=2.0, mode="nearest")
    # The same values. PyTorch 2.13 compiles the gradient of the other way to zero, in bfloat16 on a CPU.
    b, c, h, w = x.shape
    rows = x.permute(0, 2, 3, 1)[:, :, None, :, None].expand(b, h, 2, w, 2, c)
    return rows.reshape(b, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


def _halve_rows(x: Tensor) -> Tensor:
    outer = x[..., :-3:2, :] + x[..., 3::2, :]
    inner = x[..., 1:-2:2, :] + x[..., 2:-1:2, :]
    return 0.125 * outer + 0.375 * inner


def _double_rows(x: Tensor) -> Tensor:
    near, padded = 0.75 * x, F.pad(0.25 * x, (0, 0, 1, 1))
    even, odd = near + padded[..., :-2, :], near + padded[..., 2:, :]
    return torch.stack([even, odd], dim=-2).flatten(-3, -2)
