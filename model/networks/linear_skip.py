"""A short cut from the pixels that a conditional network sees to its output."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .row_linear import RowLinear


class LinearSkip(nn.Module):
    """Mixes the channels of x_t and the condition in each pixel, by a matrix that the time embedding makes.

    Where the condition nearly is the image, most of what a network has to predict is such a mixture: at high noise, v
    is nearly the condition times -1. A network that only has to add the rest converges much faster (Kim et al. 2016,
    section 3.2). Starts as zero.

    Args:
        in_channels: channels of x_t and the condition together.
        out_channels: channels of the prediction.
        emb_dim: length of the time embedding.
    """

    def __init__(self, in_channels: int, out_channels: int, emb_dim: int) -> None:
        super().__init__()
        self.shape = (out_channels, in_channels)
        self.emb_proj = RowLinear(emb_dim, out_channels * in_channels)
        nn.init.zeros_(self.emb_proj.weight)
        nn.init.zeros_(self.emb_proj.bias)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Returns shape (B, out_channels, H, W).

        Args:
            x: x_t and the condition, shape (B, in_channels, H, W).
            emb: time embedding, shape (B, emb_dim).
        """
        matrix = self.emb_proj(F.silu(emb)).view(-1, *self.shape, 1, 1)
        # Channel by channel, because a matrix product may give an image other bits in another batch.
        mixed = matrix[:, :, 0] * x[:, :1]
        for channel in range(1, x.shape[1]):
            mixed = mixed + matrix[:, :, channel] * x[:, channel : channel + 1]
        return mixed
