"""Normalisations that compute in float32, whatever the number format of the features."""

from torch import Tensor, nn

LARGE_MAP = 1024  # positions from which PyTorch's kernel of a CPU reads bfloat16 in whole vectors; below it is slow


class GroupNorm(nn.GroupNorm):
    """A normalisation in groups of channels, whose output has the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype == self.weight.dtype or (x.device.type == "cpu" and x[0, 0].numel() >= LARGE_MAP):
            return super().forward(x)
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """A normalisation of the last dimension, whose output has the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


class RMSNorm(nn.RMSNorm):
    """A division of the last dimension by its root mean square, whose output has the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)
