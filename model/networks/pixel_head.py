"""Parts of a U-Net at full resolution: a decoder behind a pixel-unshuffle stem, and a short cut from planes."""

import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Convolution, LastConvolution, RowLinear

BLOCKS = 2


class PixelBlock(nn.Module):
    """Two 3x3 convolutions, each scaled and shifted by the time embedding, plus the input. Starts as the identity."""

    def __init__(self, channels: int, emb_dim: int) -> None:
        super().__init__()
        self.emb_proj = RowLinear(emb_dim, 4 * channels)
        self.conv1 = Convolution(channels, channels, 3, padding=1)
        self.conv2 = Convolution(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        time = self.emb_proj(F.silu(emb)).to(x.dtype)[:, :, None, None]
        scale1, shift1, scale2, shift2 = time.chunk(4, dim=1)
        h = self.conv1(F.silu(x * (1 + scale1) + shift1))
        return x + self.conv2(F.silu(h * (1 + scale2) + shift2))


class PixelHead(nn.Module):
    """Predicts pixels from the U-Net's features, `patch` times as coarse, and from the noisy pixels.

    Behind a stem of four, 48 noisy values per position must pass through the U-Net's base width, and lost detail of the
    noise remains as grain. A narrow decoder that sees the pixels removes the noise instead (as DeCo does behind a
    transformer: Ma et al. 2025). It has no normalisation, so that the scale of the noise reaches the output.
    """

    def __init__(
        self, *, in_channels: int, out_channels: int, trunk_channels: int, channels: int, patch: int, emb_dim: int
    ) -> None:
        super().__init__()
        self.patch = patch
        self.from_trunk = Convolution(trunk_channels, channels * patch**2, 1)
        self.from_noisy = Convolution(in_channels, channels, 3, padding=1)
        self.blocks = nn.ModuleList([PixelBlock(channels, emb_dim) for _ in range(BLOCKS)])
        self.conv_out = LastConvolution(channels, out_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, trunk: Tensor, emb: Tensor) -> Tensor:
        """Returns the prediction, shape (B, out_channels, H, W).

        x has noisy images, shape (B, in_channels, H, W), `trunk` features, (B, trunk_channels, H / patch, W / patch),
        and `emb` the time embedding, (B, emb_dim).
        """
        h = self.from_noisy(x) + F.pixel_shuffle(self.from_trunk(trunk), self.patch)
        for block in self.blocks:
            h = block(h, emb)
        return self.conv_out(F.silu(h))


class LinearSkip(nn.Module):
    """Mixes the channels of x_t and the planes in each pixel, by a matrix that the time embedding makes, at first zero.

    Where the planes nearly are the image, most of a prediction is such a mixture: at high noise, v is nearly -1 times
    the planes. A network that only has to add the rest converges much faster (Kim et al. 2016, section 3.2).
    """

    def __init__(self, in_channels: int, out_channels: int, emb_dim: int) -> None:
        super().__init__()
        self.shape = (out_channels, in_channels)
        self.emb_proj = RowLinear(emb_dim, out_channels * in_channels)
        nn.init.zeros_(self.emb_proj.weight)
        nn.init.zeros_(self.emb_proj.bias)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """Returns (B, out_channels, H, W), from x_t and the planes, (B, in_channels, H, W), and emb, (B, emb_dim)."""
        matrix = self.emb_proj(F.silu(emb)).view(-1, *self.shape, 1, 1)
        # Channel by channel, because a matrix product may give an image other bits in another batch.
        mixed = matrix[:, :, 0] * x[:, :1]
        for channel in range(1, x.shape[1]):
            mixed = mixed + matrix[:, :, channel] * x[:, channel : channel + 1]
        return mixed
