"""The U-Net of the DDPM family (Ho et al. 2020, appendix B; Dhariwal & Nichol 2021, section 3), built from a config.

One class covers diffusers' UNet2DModel, the UNetModel of improved- and guided-diffusion, and the network of Ho et al.
`model.formats` translates their configs and weights.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configs import UNetConfig
from .layers import Convolution, GroupNorm, LastConvolution, RowLinear, attend, double, halve, sinusoidal_embedding
from .pixel_head import LinearSkip, PixelHead

LEVEL_SCALE = 1000.0  # of a level of 0..1, so that its sinusoids are those of timesteps


class ResBlock(nn.Module):
    """Norm, SiLU, resample, conv, time, norm, SiLU, dropout, conv; plus the resampled input."""

    def __init__(
        self,
        config: UNetConfig,
        channels_in: int,
        channels_out: int,
        emb_dim: int,
        resample: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift = config.time_injection == "scale_shift"
        self.resample = resample
        self.norm1 = GroupNorm(config.groups, channels_in, config.norm_eps)
        self.conv1 = Convolution(channels_in, channels_out, 3, padding=1)
        self.emb_proj = RowLinear(emb_dim, channels_out * (2 if self.scale_shift else 1))
        self.norm2 = GroupNorm(config.groups, channels_out, config.norm_eps)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = _zero(Convolution(channels_out, channels_out, 3, padding=1))
        self.skip = nn.Identity() if channels_in == channels_out else Convolution(channels_in, channels_out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = F.silu(self.norm1(x))
        if self.resample is not None:
            x, h = self.resample(x), self.resample(h)
        h = self.conv1(h)
        time = self.emb_proj(F.silu(emb)).to(h.dtype)[:, :, None, None]
        if self.scale_shift:
            scale, shift = time.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + time)
        h = self.conv2(self.dropout(F.silu(h)))
        return self.skip(x) + h


class Attention(nn.Module):
    """Self-attention over all positions; plus the input."""

    def __init__(self, config: UNetConfig, channels: int) -> None:
        super().__init__()
        self.heads = config.heads or channels // config.head_channels
        self.norm = GroupNorm(config.groups, channels, config.norm_eps)
        self.qkv = Convolution(channels, 3 * channels, 1)
        self.proj = _zero(Convolution(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # each (B, heads, HW, C / heads)
        out = attend(q, k, v)
        return x + self.proj(out.transpose(-1, -2).reshape(b, c, h, w))


class Stage(nn.Module):
    """A residual block and, on some levels, attention after it."""

    def __init__(self, config: UNetConfig, channels_in: int, channels_out: int, emb_dim: int, attention: bool) -> None:
        super().__init__()
        self.block = ResBlock(config, channels_in, channels_out, emb_dim)
        self.attention = Attention(config, channels_out) if attention else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.attention(self.block(x, emb))


class Downsample(Convolution):
    """Halves height and width."""

    def __init__(self, config: UNetConfig, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=0 if config.asymmetric_downsample else 1)
        self.asymmetric = config.asymmetric_downsample

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.pad(x, (0, 1, 0, 1)) if self.asymmetric else x)


class Upsample(nn.Module):
    """Doubles height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Convolution(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(double(x))


class UNet(nn.Module):
    """Predicts noise, v or x0 from a noisy image; `forward` raises ValueError if it needs labels and gets none."""

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        emb_dim = 4 * config.channels
        self.time_mlp = nn.Sequential(RowLinear(config.channels, emb_dim), nn.SiLU(), RowLinear(emb_dim, emb_dim))
        if config.num_classes is not None:
            # As nn.Embedding begins by itself, but without its initialisation, which imports torch's compiler.
            rows = config.num_classes + config.null_class
            self.label_emb = nn.Embedding(rows, emb_dim, _weight=torch.randn(rows, emb_dim))
        seen_channels = config.in_channels + config.condition_channels
        if config.condition_channels:
            self.level_mlp = nn.Sequential(RowLinear(config.channels, emb_dim), nn.SiLU(), RowLinear(emb_dim, emb_dim))
            self.linear_skip = LinearSkip(seen_channels, config.out_channels, emb_dim)
        if config.vector_size:
            self.vector_mlp = nn.Sequential(
                RowLinear(config.vector_size, emb_dim), nn.SiLU(), RowLinear(emb_dim, emb_dim)
            )
        self.conv_in = Convolution(seen_channels * config.patch**2, config.widths[0], 3, padding=1)
        self.down, skips = down_layers(config)
        self.mid = mid_layers(config)
        self.up = nn.ModuleList()
        channels = config.widths[-1]
        for level, block in config.up_places():
            if block is not None:
                channels_in, channels = channels + skips.pop(), config.widths[level]
                self.up.append(Stage(config, channels_in, channels, emb_dim, level in config.attention_levels))
            elif config.resample == "conv":
                self.up.append(Upsample(channels))
            else:
                self.up.append(ResBlock(config, channels, channels, emb_dim, resample=double))
        self.norm_out = GroupNorm(config.groups, channels, config.norm_eps)
        if config.pixel_head:
            self.pixel_head = PixelHead(
                in_channels=seen_channels,
                out_channels=config.out_channels,
                trunk_channels=channels,
                channels=config.pixel_head,
                patch=config.patch,
                emb_dim=emb_dim,
            )
        else:
            self.conv_out = _zero(LastConvolution(channels, config.out_channels * config.patch**2, 3, padding=1))

    def forward(
        self,
        x: Tensor,
        t: Tensor,
        *,
        labels: Tensor | None = None,
        vector: Tensor | None = None,
        planes: Tensor | None = None,
        level: Tensor | None = None,
    ) -> Tensor:
        """Returns the prediction, shape (B, out_channels, H, W).

        Args:
            x: noisy images, shape (B, in_channels, H, W).
            t: timesteps, shape (B,), int64, or float32 between the integers.
            labels: class indices, shape (B,), int64 in 0..num_classes; num_classes and None mean "no class". A network
                without a null class needs labels in 0..num_classes-1.
            vector: choices, numbers and vectors, shape (B, vector_size); see `model.network_inputs`.
            planes: the images and maps that a conditional network sees with x, shape (B, condition_channels, H, W); see
                `model.network_inputs`.
            level: standard deviation of the noise that was added to the planes, 0..1, shape (B,), float32; None
                is none.
        """
        emb = self._embed(t, labels)
        if self.config.vector_size:
            emb = emb + self.vector_mlp(vector)
        if self.config.condition_channels:
            assert planes is not None
            level = torch.zeros_like(t) if level is None else level
            emb = emb + self.level_mlp(sinusoidal_embedding(LEVEL_SCALE * level.float(), self.config.channels))
            x = torch.cat([x, planes], dim=1)
        h = self.conv_in(F.pixel_unshuffle(x, self.config.patch))
        skips = [h]
        for module in self.down:
            h = module(h, emb) if isinstance(module, Stage | ResBlock) else module(h)
            skips.append(h)
        for stage in self.mid:
            h = stage(h, emb)
        for module in self.up:
            if isinstance(module, Stage):
                h = torch.cat([h, skips.pop()], dim=1)
            h = module(h, emb) if isinstance(module, Stage | ResBlock) else module(h)
        h = F.silu(self.norm_out(h))
        prediction: Tensor = (
            self.pixel_head(x, h, emb)
            if self.config.pixel_head
            else F.pixel_shuffle(self.conv_out(h), self.config.patch)
        )
        return prediction + self.linear_skip(x, emb) if self.config.condition_channels else prediction

    def _embed(self, t: Tensor, labels: Tensor | None) -> Tensor:
        """Returns the embedding of timestep and class as one vector, shape (B, 4 * channels)."""
        config = self.config
        scaled = t.float() * config.timestep_scale
        sinusoids = sinusoidal_embedding(scaled, config.channels, order=config.time_order, freq_shift=config.freq_shift)
        emb: Tensor = self.time_mlp(sinusoids)
        if config.num_classes is None:
            return emb
        if labels is None:
            if not config.null_class:
                raise ValueError('this network has no embedding for "no class": every call needs labels')
            labels = torch.full_like(t, config.num_classes, dtype=torch.int64)
        return emb + self.label_emb(labels)


def down_layers(config: UNetConfig) -> tuple[nn.ModuleList, list[int]]:
    """Makes the layers of the downward half; returns them, and the channels before the first and after each."""
    layers, channels, emb_dim = nn.ModuleList(), [config.widths[0]], 4 * config.channels
    for level, block in config.down_places():
        width = config.widths[level]
        if block is not None:
            layers.append(Stage(config, channels[-1], width, emb_dim, level in config.attention_levels))
        elif config.resample == "conv":
            layers.append(Downsample(config, width))
        else:
            layers.append(ResBlock(config, width, width, emb_dim, resample=halve))
        channels.append(width)
    return layers, channels


def mid_layers(config: UNetConfig) -> nn.ModuleList:
    """Makes the two stages in the middle, the first of them with attention unless the config has none there."""
    width, emb_dim = config.widths[-1], 4 * config.channels
    return nn.ModuleList(
        [Stage(config, width, width, emb_dim, attention) for attention in (config.mid_attention, False)]
    )


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    """Sets weights to zero, so that each block starts as the identity (Ho et al. 2020, appendix B)."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
