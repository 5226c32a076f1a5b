"""The U-Net of lucidrains/denoising-diffusion-pytorch.

Module names follow that repository so that its weights fit key by key. Its versions from 2.0 on normalise by the root
mean square, and the ones before in groups. Its continuous-time classes use the same network with Fourier features.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configs import LucidUNetConfig
from .layers.attention import attend
from .layers.convolution import Convolution, LastConvolution
from .layers.norms import GroupNorm
from .layers.row_linear import RowLinear

MEMORIES = 4  # learned keys and values of each attention, in addition to those of the positions


class RMSNorm(nn.Module):
    """Divides the channels of each position by their root mean square, and scales each channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = channels**0.5
        self.g = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.normalize(x, dim=1) * self.g * self.scale


class Block(nn.Module):
    """Conv, norm, scale and shift by the time, SiLU, dropout."""

    def __init__(self, config: LucidUNetConfig, channels_in: int, channels_out: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.proj = Convolution(channels_in, channels_out, 3, padding=1)
        self.norm = RMSNorm(channels_out) if config.groups is None else GroupNorm(config.groups, channels_out)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, scale_shift: tuple[Tensor, Tensor] | None = None) -> Tensor:
        x = self.norm(self.proj(x))
        if scale_shift is not None:
            scale, shift = scale_shift
            x = x * (scale + 1) + shift
        return self.dropout(F.silu(x))


class ResBlock(nn.Module):
    """Two blocks, the first of them with the time; plus the input."""

    def __init__(self, config: LucidUNetConfig, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), RowLinear(4 * config.channels, 2 * channels_out))
        self.block1 = Block(config, channels_in, channels_out, config.dropout)
        self.block2 = Block(config, channels_out, channels_out)
        self.res_conv = nn.Identity() if channels_in == channels_out else Convolution(channels_in, channels_out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        time = self.mlp(emb).to(x.dtype)[:, :, None, None].chunk(2, dim=1)
        return self.block2(self.block1(x, time)) + self.res_conv(x)


class Attention(nn.Module):
    """Self-attention over all positions and the memories; plus the input."""

    def __init__(self, channels: int, heads: int, head_channels: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = RMSNorm(channels)
        self.mem_kv = nn.Parameter(torch.randn(2, heads, MEMORIES, head_channels))
        self.to_qkv = Convolution(channels, 3 * heads * head_channels, 1, bias=False)
        self.to_out = Convolution(heads * head_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        qkv = self.to_qkv(self.norm(x)).reshape(b, 3, self.heads, -1, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # each (B, heads, HW, head_channels)
        k, v = _with_memories(self.mem_kv, k, v, dim=-2)
        out = attend(q, k, v)
        return self.to_out(out.transpose(-1, -2).reshape(b, -1, h, w)) + x


class LinearAttention(nn.Module):
    """Attention whose cost is linear in the number of positions (Shen et al. 2021), with memories; plus the input."""

    def __init__(self, channels: int, heads: int, head_channels: int) -> None:
        super().__init__()
        self.heads = heads
        self.scale = head_channels**-0.5
        self.norm = RMSNorm(channels)
        self.mem_kv = nn.Parameter(torch.randn(2, heads, head_channels, MEMORIES))
        self.to_qkv = Convolution(channels, 3 * heads * head_channels, 1, bias=False)
        self.to_out = nn.Sequential(Convolution(heads * head_channels, channels, 1), RMSNorm(channels))

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        qkv = self.to_qkv(self.norm(x)).reshape(b, 3, self.heads, -1, h * w)
        q, k, v = qkv.unbind(1)  # each (B, heads, head_channels, HW)
        k, v = _with_memories(self.mem_kv, k, v, dim=-1)
        context = v @ k.softmax(dim=-1).transpose(-1, -2)  # (B, heads, head_channels, head_channels)
        out = context @ (q.softmax(dim=-2) * self.scale)
        return self.to_out(out.reshape(b, -1, h, w)) + x


class SinusoidalTime(nn.Module):
    """Sines and cosines of t at the frequencies 1 ... 1/theta, shape (B, channels)."""

    def __init__(self, channels: int, theta: float) -> None:
        super().__init__()
        self.number = channels // 2  # of frequencies
        self.exponent = math.log(theta) / (self.number - 1)

    def forward(self, t: Tensor) -> Tensor:
        # Rounded as there, not as in `sinusoidal_embedding`: one bit of a frequency is 3e-5 of a sine near t = 1000.
        frequencies = torch.exp(torch.arange(self.number, device=t.device) * -self.exponent)
        angles = t.float()[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class FourierTime(nn.Module):
    """t, and its sines and cosines at frequencies that are random or learned, shape (B, 2 features + 1)."""

    EXACT = ("weights",)

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.randn(features))

    def forward(self, t: Tensor) -> Tensor:
        t = t.float()[:, None]
        angles = t * self.weights * 2 * math.pi
        return torch.cat([t, angles.sin(), angles.cos()], dim=1)


class Down(nn.ModuleList):
    """Two blocks, attention, and a layer that halves the resolution, or keeps it on the last level."""

    def __init__(self, config: LucidUNetConfig, level: int, channels_in: int, channels_out: int) -> None:
        if level == len(config.widths) - 1:
            downsample: nn.Module = Convolution(channels_in, channels_out, 3, padding=1)
        else:
            downsample = nn.Sequential(nn.PixelUnshuffle(2), Convolution(4 * channels_in, channels_out, 1))
        super().__init__(
            [
                ResBlock(config, channels_in, channels_in),
                ResBlock(config, channels_in, channels_in),
                _attention(config, level, channels_in),
                downsample,
            ]
        )

    def forward(self, h: Tensor, emb: Tensor, skips: list[Tensor]) -> Tensor:
        """Returns the features of the next level, and appends two to `skips`."""
        block1, block2, attention, downsample = self
        skips.append(block1(h, emb))
        skips.append(attention(block2(skips[-1], emb)))
        return downsample(skips[-1])


class Up(nn.ModuleList):
    """Two blocks, attention, and a layer that doubles the resolution, or keeps it on the first level."""

    def __init__(self, config: LucidUNetConfig, level: int, channels_in: int, channels_out: int) -> None:
        conv = Convolution(channels_in, channels_out, 3, padding=1)
        super().__init__(
            [
                ResBlock(config, channels_in + channels_out, channels_in),
                ResBlock(config, channels_in + channels_out, channels_in),
                _attention(config, level, channels_in),
                conv if level == 0 else nn.Sequential(nn.Upsample(scale_factor=2, mode="nearest"), conv),
            ]
        )

    def forward(self, h: Tensor, emb: Tensor, skips: list[Tensor]) -> Tensor:
        """Returns the features of the level before, and takes two from `skips`."""
        block1, block2, attention, upsample = self
        h = block1(torch.cat([h, skips.pop()], dim=1), emb)
        h = block2(torch.cat([h, skips.pop()], dim=1), emb)
        return upsample(attention(h))


class LucidUNet(nn.Module):
    """Predicts noise, v or x0 from a noisy image.

    Raises ValueError from `forward`, if height or width is not a multiple of `config.size_multiple`.
    """

    def __init__(self, config: LucidUNetConfig) -> None:
        super().__init__()
        self.config = config
        channels, emb_dim = config.channels, 4 * config.channels
        if config.fourier_features is None:
            time: nn.Module = SinusoidalTime(channels, config.theta)
            features = channels
        else:
            time, features = FourierTime(config.fourier_features), 2 * config.fourier_features + 1
        self.time_mlp = nn.Sequential(time, RowLinear(features, emb_dim), nn.GELU(), RowLinear(emb_dim, emb_dim))
        self.init_conv = Convolution(config.in_channels, config.init_channels, 7, padding=3)
        widths = (config.init_channels, *config.widths)
        levels = list(enumerate(itertools.pairwise(widths)))
        self.downs = nn.ModuleList([Down(config, level, finer, coarser) for level, (finer, coarser) in levels])
        self.ups = nn.ModuleList([Up(config, level, coarser, finer) for level, (finer, coarser) in reversed(levels)])
        width, heads, head_channels = widths[-1], config.attention_heads[-1], config.attention_head_channels[-1]
        self.mid_block1 = ResBlock(config, width, width)
        self.mid_attn = Attention(width, heads, head_channels)
        self.mid_block2 = ResBlock(config, width, width)
        self.final_res_block = ResBlock(config, 2 * config.init_channels, config.init_channels)
        self.final_conv = LastConvolution(config.init_channels, config.out_channels, 1)

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Returns the prediction; the arguments are those of `UNet`, and labels are ignored: there are no classes."""
        self.config.check_size(*x.shape[-2:])
        emb = self.time_mlp(t)
        first = h = self.init_conv(x)
        skips: list[Tensor] = []
        for down in self.downs:
            h = down(h, emb, skips)
        h = self.mid_block2(self.mid_attn(self.mid_block1(h, emb)), emb)
        for up in self.ups:
            h = up(h, emb, skips)
        return self.final_conv(self.final_res_block(torch.cat([h, first], dim=1), emb))


def _attention(config: LucidUNetConfig, level: int, channels: int) -> nn.Module:
    kind = Attention if level in config.attention_levels else LinearAttention
    return kind(channels, config.attention_heads[level], config.attention_head_channels[level])


def _with_memories(memories: Tensor, k: Tensor, v: Tensor, *, dim: int) -> tuple[Tensor, Tensor]:
    """Returns keys and values with the learned ones before them."""
    mk, mv = memories[:, None].expand(-1, len(k), -1, -1, -1)
    return torch.cat([mk, k], dim=dim), torch.cat([mv, v], dim=dim)
