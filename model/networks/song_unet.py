"""DDPM++ and NCSN++ (Song et al. 2021, appendix H), as Karras et al. 2022 (appendix F.1) build both from one U-Net."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import Convolution, GroupNorm, LastConvolution, RowLinear, attend, double, halve, sinusoidal_embedding
from .sigma_configs import SongUNetConfig

RESCALE = math.sqrt(0.5)  # of every sum of two branches


class Attention(nn.Module):
    """Self-attention over all positions, with one head; plus the input, rescaled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.qkv = Convolution(channels, 3 * channels, 1)
        self.proj = Convolution(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, 3, 1, c, h * w)
        q, k, v = qkv.transpose(-1, -2).unbind(1)  # each (B, 1, HW, C)
        out = attend(q, k, v).transpose(-1, -2).reshape(b, c, h, w)
        # With one head this is a view, whose memory format would depend on the size of the batch.
        return (self.proj(out.contiguous()) + x) * RESCALE


class Block(nn.Module):
    """Norm, SiLU, resample, conv, noise level, norm, SiLU, dropout, conv; plus the resampled input; then attention."""

    def __init__(
        self, config: SongUNetConfig, channels_in: int, channels_out: int, *, kind: str = "block", attention: bool
    ) -> None:
        super().__init__()
        self.config, self.kind = config, kind
        self.norm0 = _norm(channels_in)
        self.conv0 = Convolution(channels_in, channels_out, 3, padding=1)
        self.affine = RowLinear(config.emb_channels, channels_out)
        self.norm1 = _norm(channels_out)
        self.dropout = nn.Dropout(config.dropout)
        self.conv1 = Convolution(channels_out, channels_out, 3, padding=1)
        projects = channels_in != channels_out or kind in ("down", "up")
        self.skip = Convolution(channels_in, channels_out, 1) if projects else nn.Identity()
        self.attention = Attention(channels_out) if attention else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        h = self.conv0(self._resample(F.silu(self.norm0(x))))
        h = F.silu(self.norm1(h + self.affine(emb).to(h.dtype)[:, :, None, None]))
        h = self.conv1(self.dropout(h))
        return self.attention((h + self.skip(self._resample(x))) * RESCALE)

    def _resample(self, x: Tensor) -> Tensor:
        match self.kind:
            case "down":
                return halve(x, self.config.resample)
            case "up":
                return double(x, self.config.resample)
        return x


class Shrink(Convolution):
    """Convolves the image of the level before, and halves it."""

    def __init__(self, config: SongUNetConfig, channels_in: int, channels_out: int) -> None:
        self.border = 0 if config.resample == "box" else 1  # that the filter needs, made by the convolution
        super().__init__(channels_in, channels_out, 3, padding=1 + self.border)
        self.resample = config.resample

    def forward(self, x: Tensor) -> Tensor:
        return halve(super().forward(x), self.resample, padded=True)


class Out(nn.Module):
    """Norm, SiLU, conv: the output of a level."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.norm = _norm(channels_in)
        self.conv = LastConvolution(channels_in, channels_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.silu(self.norm(x)))


class SongUNet(nn.Module):
    """Predicts a plan's quantity, or F inside a `Preconditioned`; `forward` raises the ValueError of `UNet`."""

    EXACT = ("frequencies",)

    def __init__(self, config: SongUNetConfig) -> None:
        super().__init__()
        self.config = config
        if config.fourier:
            self.frequencies = nn.Parameter(16 * torch.randn(config.noise_channels // 2), requires_grad=False)
        if config.num_classes is not None:
            self.label_emb = nn.Embedding(config.num_classes + config.null_class, config.noise_channels)
        self.emb = nn.ModuleList(
            [
                RowLinear(config.noise_channels, config.emb_channels),
                RowLinear(config.emb_channels, config.emb_channels),
            ]
        )
        self.enc, skips = self._encoder()
        self.dec = self._decoder(skips)

    def _encoder(self) -> tuple[nn.ModuleList, list[int]]:
        """Returns the layers of the downward half, and the channels after those that the upward half sees."""
        config, layers = self.config, nn.ModuleList()
        skips: list[int] = []
        channels, aux = config.channels, config.in_channels
        for kind, level, _ in config.encoder_places():
            width = config.widths[level]
            match kind:
                case "conv":
                    layers.append(Convolution(config.in_channels, channels, 3, padding=1))
                case "down":
                    layers.append(Block(config, channels, channels, kind=kind, attention=False))
                case "skip":
                    layers.append(Convolution(config.in_channels, channels, 1))
                case "residual":
                    layers.append(Shrink(config, aux, channels))
                    aux = channels
                case "block":
                    layers.append(Block(config, channels, width, attention=level in config.attention_levels))
                    channels = width
            if kind not in ("skip", "residual"):
                skips.append(channels)
        return layers, skips

    def _decoder(self, skips: list[int]) -> nn.ModuleList:
        """Returns the layers of the upward half."""
        config, layers, channels = self.config, nn.ModuleList(), self.config.widths[-1]
        for kind, level, number in config.decoder_places():
            width = config.widths[level]
            match kind:
                case "middle":
                    layers.append(Block(config, channels, channels, attention=number == 0))
                case "up":
                    layers.append(Block(config, channels, channels, kind=kind, attention=False))
                case "block":
                    attention = level in config.attention_levels and number == config.num_res_blocks
                    layers.append(Block(config, channels + skips.pop(), width, attention=attention))
                    channels = width
                case "out":
                    layers.append(Out(channels, config.out_channels))
        return layers

    def forward(self, x: Tensor, t: Tensor, *, labels: Tensor | None = None) -> Tensor:
        """Returns the prediction; the arguments are those of `UNet`, but t is the noise level in its own measure."""
        config = self.config
        emb = self._embed(t, labels, x.dtype)
        h, aux = x, x
        skips: list[Tensor] = []
        for (kind, _, _), layer in zip(config.encoder_places(), self.enc, strict=True):
            match kind:
                case "conv":
                    h = layer(h)
                case "skip":
                    aux = halve(aux, config.resample)
                    h = skips.pop() + layer(aux)
                case "residual":
                    h = aux = (skips.pop() + layer(aux)) * RESCALE
                case _:
                    h = layer(h, emb)
            skips.append(h)
        out: Tensor | None = None
        for (kind, _, _), layer in zip(config.decoder_places(), self.dec, strict=True):
            match kind:
                case "out":
                    out = layer(h) if out is None else double(out, config.resample) + layer(h)
                case "block":
                    h = layer(torch.cat([h, skips.pop()], dim=1), emb)
                case _:
                    h = layer(h, emb)
        assert out is not None
        return out

    def _embed(self, t: Tensor, labels: Tensor | None, dtype: torch.dtype) -> Tensor:
        """Returns the embedding of noise level and class, shape (B, emb_channels)."""
        config = self.config
        if config.fourier:
            angles = t.float()[:, None] * (2 * math.pi * self.frequencies)
            emb = torch.cat([angles.sin(), angles.cos()], dim=1).to(dtype)
        else:
            emb = sinusoidal_embedding(t, config.noise_channels, freq_shift=1).to(dtype)
        if config.num_classes is not None:
            if labels is None:
                if not config.null_class:
                    raise ValueError('this network has no embedding for "no class": every call needs labels')
                labels = torch.full_like(t, config.num_classes, dtype=torch.int64)
            emb = emb + self.label_emb(labels)
        for layer in self.emb:
            emb = F.silu(layer(emb))
        return emb


def _norm(channels: int) -> GroupNorm:
    """Returns a normalisation in groups of at least 4 channels, at most 32 groups."""
    return GroupNorm(min(32, channels // 4), channels, 1e-6)
