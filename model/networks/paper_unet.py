"""The U-Net of the paper that this project grew out of, in the layout of dome272/Diffusion-Models-pytorch.

Module names follow that repository so that its weights fit key by key. There is one difference: attention takes its
size from the input. The original hard-codes 32, 16, 8, 16, 32, 64 and silently mixes up images at any other size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configs import PaperUNetConfig
from .layers import Convolution, GroupNorm, LastConvolution, LayerNorm, RowLinear, sinusoidal_embedding


class SelfAttention(nn.Module):
    """Four heads over all positions, then a feed-forward layer, each with a residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mha = nn.MultiheadAttention(channels, 4, batch_first=True)
        self.ln = LayerNorm([channels])
        self.ff_self = nn.Sequential(
            LayerNorm([channels]), nn.Linear(channels, channels), nn.GELU(), nn.Linear(channels, channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)  # (B, HW, C)
        normed = self.ln(tokens)
        tokens = tokens + self.mha(normed, normed, normed, need_weights=False)[0]
        tokens = tokens + self.ff_self(tokens)
        return tokens.transpose(1, 2).reshape(x.shape)


class DoubleConv(nn.Module):
    """Two convolutions without bias, each with a group normalisation of one group."""

    def __init__(self, channels_in: int, channels_out: int, mid: int | None = None, residual: bool = False) -> None:
        super().__init__()
        mid = mid or channels_out
        self.residual = residual
        self.double_conv = nn.Sequential(
            Convolution(channels_in, mid, 3, padding=1, bias=False),
            GroupNorm(1, mid),
            nn.GELU(),
            Convolution(mid, channels_out, 3, padding=1, bias=False),
            GroupNorm(1, channels_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.double_conv(x)
        return F.gelu(x + out) if self.residual else out


class Down(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, time_dim: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(
            nn.MaxPool2d(2),
            DoubleConv(channels_in, channels_in, residual=True),
            DoubleConv(channels_in, channels_out),
        )
        self.emb_layer = nn.Sequential(nn.SiLU(), RowLinear(time_dim, channels_out))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h: Tensor = self.maxpool_conv(x)
        return h + self.emb_layer(emb).to(h.dtype)[:, :, None, None]


class Up(nn.Module):
    def __init__(self, channels_in: int, channels_out: int, time_dim: int) -> None:
        super().__init__()
        self.up = nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)
        self.conv = nn.Sequential(
            DoubleConv(channels_in, channels_in, residual=True),
            DoubleConv(channels_in, channels_out, channels_in // 2),
        )
        self.emb_layer = nn.Sequential(nn.SiLU(), RowLinear(time_dim, channels_out))

    def forward(self, x: Tensor, skip: Tensor, emb: Tensor) -> Tensor:
        x = torch.cat([skip, self.up(x)], dim=1)
        h: Tensor = self.conv(x)
        return h + self.emb_layer(emb).to(h.dtype)[:, :, None, None]


class PaperUNet(nn.Module):
    """Predicts the noise in a noisy image."""

    def __init__(self, config: PaperUNetConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.time_dim
        self.inc = DoubleConv(config.in_channels, 64)
        self.down1, self.sa1 = Down(64, 128, dim), SelfAttention(128)
        self.down2, self.sa2 = Down(128, 256, dim), SelfAttention(256)
        self.down3, self.sa3 = Down(256, 256, dim), SelfAttention(256)
        self.bot1, self.bot2, self.bot3 = DoubleConv(256, 512), DoubleConv(512, 512), DoubleConv(512, 256)
        self.up1, self.sa4 = Up(512, 128, dim), SelfAttention(128)
        self.up2, self.sa5 = Up(256, 64, dim), SelfAttention(64)
        self.up3, self.sa6 = Up(128, 64, dim), SelfAttention(64)
        self.outc = LastConvolution(64, config.out_channels, 1)
        if config.num_classes is not None:
            self.label_emb = nn.Embedding(config.num_classes, dim)

    def forward(self, x: Tensor, t: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Returns the predicted noise; the arguments are those of `UNet`."""
        emb = sinusoidal_embedding(t, self.config.time_dim).to(x.dtype)
        if self.config.num_classes is not None and labels is not None:
            known = (labels < self.config.num_classes)[:, None]
            emb = emb + self.label_emb(labels.clamp(max=self.config.num_classes - 1)) * known
        x1 = self.inc(x)
        x2 = self.sa1(self.down1(x1, emb))
        x3 = self.sa2(self.down2(x2, emb))
        x4 = self.sa3(self.down3(x3, emb))
        x4 = self.bot3(self.bot2(self.bot1(x4)))
        h = self.sa4(self.up1(x4, x3, emb))
        h = self.sa5(self.up2(h, x2, emb))
        h = self.sa6(self.up3(h, x1, emb))
        return self.outc(h)
