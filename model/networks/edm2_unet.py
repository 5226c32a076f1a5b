"""The magnitude-preserving U-Net of EDM2 (Karras et al. 2024, "Analyzing and Improving the Training Dynamics of
Diffusion Models", configuration G, figure 21), as it is used after training.

EDM2 normalises its weights and gains at each use; `model.formats.edm2` does that once.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Convolution, LastConvolution, RowLinear, attend, double, halve
from .sigma_configs import EDM2UNetConfig

RESIDUAL_BALANCE = ATTENTION_BALANCE = 0.3  # share of the branch in a sum
LABEL_BALANCE = CONCAT_BALANCE = 0.5  # share of the class, and of the skip connection
CLIP = 256.0  # largest activation
NORM_EPS = 1e-4


def mp_silu(x: Tensor) -> Tensor:
    """Returns SiLU(x) with the magnitude of normal x (eq. 81)."""
    return F.silu(x) / 0.596


def mp_sum(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Returns the sum of a and this share of b with their magnitude (eq. 88)."""
    return ((1 - share) * a + share * b) / math.hypot(1 - share, share)


def mp_cat(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Returns the channels of a and b together, with the same magnitude and this share of b (eq. 103)."""
    total = math.sqrt((a.shape[1] + b.shape[1]) / ((1 - share) ** 2 + share**2))
    scale_a, scale_b = total / math.sqrt(a.shape[1]) * (1 - share), total / math.sqrt(b.shape[1]) * share
    return torch.cat([scale_a * a, scale_b * b], dim=1)


def pixel_norm(x: Tensor, dim: int) -> Tensor:
    """Divides vectors along a dimension by their root mean square (eq. 30)."""
    return x / (NORM_EPS + x.square().sum(dim, keepdim=True).sqrt() / math.sqrt(x.shape[dim]))


class Attention(nn.Module):
    """Self-attention over all positions, with normalised queries, keys and values; added to the input."""

    def __init__(self, config: EDM2UNetConfig, channels: int) -> None:
        super().__init__()
        self.heads = channels // config.head_channels
        self.qkv = Convolution(channels, 3 * channels, 1, bias=False)
        self.proj = Convolution(channels, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = pixel_norm(self.qkv(x).reshape(b, 3, self.heads, c // self.heads, h * w), dim=3)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # each (B, heads, HW, C / heads)
        out = attend(q, k, v)
        return mp_sum(x, self.proj(out.transpose(-1, -2).reshape(b, c, h, w)), ATTENTION_BALANCE)


class Block(nn.Module):
    """Resample; SiLU, conv, scale by the embedding, SiLU, conv; added to the input. Then attention, on some levels.

    On the way down the input is projected and normalised before the branch, on the way up it is projected after it.
    """

    def __init__(
        self,
        config: EDM2UNetConfig,
        channels_in: int,
        channels_out: int,
        *,
        kind: str,
        encodes: bool,
        attention: bool = False,
    ) -> None:
        super().__init__()
        self.kind, self.encodes = kind, encodes
        self.conv0 = Convolution(channels_out if encodes else channels_in, channels_out, 3, padding=1, bias=False)
        self.emb = RowLinear(config.emb_channels, channels_out, bias=False)
        self.conv1 = Convolution(channels_out, channels_out, 3, padding=1, bias=False)
        projects = channels_in != channels_out
        self.skip = Convolution(channels_in, channels_out, 1, bias=False) if projects else nn.Identity()
        self.attention = Attention(config, channels_out) if attention else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        if self.kind == "down":
            x = halve(x)
        elif self.kind == "up":
            x = double(x)
        if self.encodes:
            x = pixel_norm(self.skip(x), dim=1)
        h = self.conv0(mp_silu(x))
        h = self.conv1(mp_silu(h * (self.emb(emb) + 1).to(h.dtype)[:, :, None, None]))
        if not self.encodes:
            x = self.skip(x)
        return self.attention(mp_sum(x, h, RESIDUAL_BALANCE)).clamp(-CLIP, CLIP)


class EDM2UNet(nn.Module):
    """Predicts F inside a `Preconditioned`; `forward` raises the ValueError of `UNet`."""

    EXACT = ("frequencies", "phases")

    def __init__(self, config: EDM2UNetConfig) -> None:
        super().__init__()
        self.config = config
        self.frequencies = nn.Parameter(2 * math.pi * torch.randn(config.noise_channels), requires_grad=False)
        self.phases = nn.Parameter(2 * math.pi * torch.rand(config.noise_channels), requires_grad=False)
        self.emb_noise = RowLinear(config.noise_channels, config.emb_channels, bias=False)
        if config.num_classes is not None:
            self.label_emb = nn.Embedding(config.num_classes, config.emb_channels)
        self.enc, channels = nn.ModuleList(), config.channels
        skips = []
        for kind, level, _ in config.encoder_places():
            if kind == "conv":  # one more channel, of ones, is the bias
                self.enc.append(Convolution(config.in_channels + 1, config.widths[0], 3, padding=1, bias=False))
                channels = config.widths[0]
            else:
                width = channels if kind == "down" else config.widths[level]
                attention = kind == "block" and level in config.attention_levels
                self.enc.append(Block(config, channels, width, kind=kind, encodes=True, attention=attention))
                channels = width
            skips.append(channels)
        self.dec = nn.ModuleList()
        for kind, level, number in config.decoder_places():
            width, more = (config.widths[level], skips.pop()) if kind == "block" else (channels, 0)
            attention = level in config.attention_levels if kind == "block" else (kind, number) == ("middle", 0)
            self.dec.append(Block(config, channels + more, width, kind=kind, encodes=False, attention=attention))
            channels = width
        self.conv_out = LastConvolution(channels, config.out_channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor, t: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Returns F; the arguments are those of `SongUNet`, and x is the scaled noisy images."""
        emb = self._embed(t, labels, x.dtype)
        h, skips = torch.cat([x, torch.ones_like(x[:, :1])], dim=1), []
        for layer in self.enc:
            h = layer(h, emb) if isinstance(layer, Block) else layer(h)
            skips.append(h)
        for layer in self.dec:
            if layer.kind == "block":
                h = mp_cat(h, skips.pop(), CONCAT_BALANCE)
            h = layer(h, emb)
        return self.conv_out(h)

    def _embed(self, t: Tensor, labels: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Returns the embedding of noise level and class, shape (B, emb_channels)."""
        waves = (t.float()[:, None] * self.frequencies + self.phases).cos() * math.sqrt(2)  # eq. 75
        emb: Tensor = self.emb_noise(waves.to(dtype))
        if self.config.num_classes is not None:
            if labels is None:
                raise ValueError('this network has no embedding for "no class": every call needs labels')
            emb = mp_sum(emb, self.label_emb(labels), LABEL_BALANCE)
        return mp_silu(emb)
