"""The U-Net of the DDPM family (Ho et al. 2020, appendix B; Dhariwal & Nichol 2021, section 3), built from a config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .embedding import sinusoidal_embedding

TimeInjection = Literal["add", "scale_shift"]


@dataclass(frozen=True)
class UNetConfig:
    """Everything that shapes a `UNet`.

    Attributes:
        in_channels, out_channels: of the images.
        channels: width of the first level.
        channel_mult: width of each level, as a multiple of `channels`; each further level halves the resolution.
        num_res_blocks: residual blocks per level on the way down (one more on the way up).
        attention_levels: levels (0 the finest) whose blocks are followed by self-attention; the middle always has it.
        head_channels: channels per attention head; divides every width that has attention.
        time_injection: how a block hears of t: `add` a bias, or `scale_shift` its second normalisation.
        groups: groups of each group normalisation; divides every width.
        dropout: inside the residual blocks, 0..1, while training.
        num_classes: size of the class embedding, None for an unconditional network. One more row, the last, stands
            for "no class".
        patch: factor of the pixel-unshuffle stem; 2 turns 64x64x3 into 32x32x12 before the first convolution, which
            makes the network about four times cheaper.

    Raises:
        ValueError: if a width cannot be divided into groups or heads, or the time injection is unknown.
    """

    in_channels: int = 3
    out_channels: int = 3
    channels: int = 128
    channel_mult: tuple[int, ...] = (1, 2, 2, 2)
    num_res_blocks: int = 2
    attention_levels: tuple[int, ...] = (2,)
    head_channels: int = 64
    time_injection: TimeInjection = "add"
    groups: int = 32
    dropout: float = 0.0
    num_classes: int | None = None
    patch: int = 1

    def __post_init__(self) -> None:
        if self.time_injection not in get_args(TimeInjection):
            raise ValueError(f"unknown time_injection {self.time_injection!r}: choose add or scale_shift")
        deepest = len(self.channel_mult) - 1
        for level, mult in enumerate(self.channel_mult):
            width, attends = self.channels * mult, level in self.attention_levels or level == deepest
            for name in ("groups", "head_channels") if attends else ("groups",):
                if width % getattr(self, name):
                    raise ValueError(
                        f"{name} {getattr(self, name)} does not divide the {width} channels of level {level}"
                    )

    @property
    def size_multiple(self) -> int:
        """Height and width of an image must be multiples of this."""
        return int(self.patch * 2 ** (len(self.channel_mult) - 1))


class ResBlock(nn.Module):
    """norm, SiLU, conv, time, norm, SiLU, dropout, conv; plus the input."""

    def __init__(self, config: UNetConfig, channels_in: int, channels_out: int, emb_dim: int) -> None:
        super().__init__()
        self.scale_shift = config.time_injection == "scale_shift"
        self.norm1 = nn.GroupNorm(config.groups, channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.emb_proj = nn.Linear(emb_dim, channels_out * (2 if self.scale_shift else 1))
        self.norm2 = nn.GroupNorm(config.groups, channels_out)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = _zero(nn.Conv2d(channels_out, channels_out, 3, padding=1))
        self.skip = nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        time = self.emb_proj(F.silu(emb))[:, :, None, None]
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
        self.heads = channels // config.head_channels
        self.norm = nn.GroupNorm(config.groups, channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, self.heads, c // self.heads, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # each (B, heads, HW, C / heads)
        out = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj(out.transpose(-1, -2).reshape(b, c, h, w))


class Stage(nn.Module):
    """A residual block and, on some levels, attention after it."""

    def __init__(self, config: UNetConfig, channels_in: int, channels_out: int, emb_dim: int, attention: bool) -> None:
        super().__init__()
        self.block = ResBlock(config, channels_in, channels_out, emb_dim)
        self.attention = Attention(config, channels_out) if attention else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        return self.attention(self.block(x, emb))


class Downsample(nn.Conv2d):
    """Halves height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, stride=2, padding=1)


class Upsample(nn.Module):
    """Doubles height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class UNet(nn.Module):
    """Predicts noise, v or x0 from a noisy image.

    Raises:
        ValueError: from `forward`, if height or width is no multiple of `config.size_multiple`.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        self.config = config
        widths = [config.channels * mult for mult in config.channel_mult]
        emb_dim = 4 * config.channels
        self.time_mlp = nn.Sequential(nn.Linear(config.channels, emb_dim), nn.SiLU(), nn.Linear(emb_dim, emb_dim))
        if config.num_classes is not None:
            self.label_emb = nn.Embedding(config.num_classes + 1, emb_dim)
        self.conv_in = nn.Conv2d(config.in_channels * config.patch**2, widths[0], 3, padding=1)

        skips = [widths[0]]
        self.down = nn.ModuleList()
        channels = widths[0]
        for level, width in enumerate(widths):
            for _ in range(config.num_res_blocks):
                self.down.append(Stage(config, channels, width, emb_dim, level in config.attention_levels))
                channels = width
                skips.append(channels)
            if level < len(widths) - 1:
                self.down.append(Downsample(channels))
                skips.append(channels)

        self.mid = nn.ModuleList(
            [Stage(config, channels, channels, emb_dim, True), Stage(config, channels, channels, emb_dim, False)]
        )

        self.up = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            for _ in range(config.num_res_blocks + 1):
                attention = level in config.attention_levels
                self.up.append(Stage(config, channels + skips.pop(), width, emb_dim, attention))
                channels = width
            if level > 0:
                self.up.append(Upsample(channels))

        self.norm_out = nn.GroupNorm(config.groups, channels)
        self.conv_out = _zero(nn.Conv2d(channels, config.out_channels * config.patch**2, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Returns the prediction, shape (B, out_channels, H, W).

        Args:
            x: noisy images, shape (B, in_channels, H, W).
            t: timesteps, shape (B,).
            labels: class indices, shape (B,), int64 in 0..num_classes; num_classes means "no class", and so does None.
        """
        multiple = self.config.size_multiple
        if x.shape[-2] % multiple or x.shape[-1] % multiple:
            raise ValueError(f"height and width must be multiples of {multiple}, got {tuple(x.shape[-2:])}")
        emb = self.time_mlp(sinusoidal_embedding(t, self.config.channels).to(x.dtype))
        if self.config.num_classes is not None:
            if labels is None:
                labels = torch.full_like(t, self.config.num_classes, dtype=torch.int64)
            emb = emb + self.label_emb(labels)

        h = self.conv_in(F.pixel_unshuffle(x, self.config.patch))
        skips = [h]
        for module in self.down:
            h = module(h, emb) if isinstance(module, Stage) else module(h)
            skips.append(h)
        for stage in self.mid:
            h = stage(h, emb)
        for module in self.up:
            h = module(torch.cat([h, skips.pop()], dim=1), emb) if isinstance(module, Stage) else module(h)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(h))), self.config.patch)


def _zero(conv: nn.Conv2d) -> nn.Conv2d:
    """Zero weights, so that each block starts as the identity (Ho et al. 2020, appendix B)."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
