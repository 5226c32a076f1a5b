"""The pixel transformer of Li & He 2025 ("Back to Basics: Let Denoising Generative Models Denoise"), from a config.

Tokens have the shape (B, N, C). `model.formats.jit` reads the weights of its authors.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .configs import DiTConfig
from .layers import Convolution, LastConvolution, RMSNorm, RowLinear, attend, sinusoidal_embedding

TIME_FEATURES = 256
PURE_NOISE = 1000.0  # the time of a flow of 1000 timesteps at which nothing of the image is left
MLP_RATIO = 4
NORM_EPS = 1e-6
THETA = 10_000.0  # the rotary embedding turns by 1 to 1 / THETA a patch


class Attention(nn.Module):
    """Self-attention with normalised queries and keys, which are turned by the places of their tokens."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.heads = config.heads
        width = config.channels // config.heads
        self.q_norm, self.k_norm = RMSNorm(width, NORM_EPS), RMSNorm(width, NORM_EPS)
        self.qkv = _linear(config.channels, 3 * config.channels)
        self.proj = _linear(config.channels, config.channels)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = _each(self.qkv, x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
        out = attend(_turned(self.q_norm(q), angles), _turned(self.k_norm(k), angles), v)
        return _each(self.proj, out.transpose(1, 2).reshape(b, n, c))


class SwiGLU(nn.Module):
    """A gated linear unit between two linear layers (Shazeer 2020)."""

    def __init__(self, channels: int, dropout: float) -> None:
        super().__init__()
        hidden = MLP_RATIO * channels * 2 // 3
        self.w12, self.w3 = _linear(channels, 2 * hidden), _linear(hidden, channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = _each(self.w12, x).chunk(2, dim=-1)
        return _each(self.w3, self.dropout(F.silu(gate) * value))


class Block(nn.Module):
    """Attention and SwiGLU, scaled, shifted and gated by time and conditions (adaLN-Zero: Peebles & Xie 2023)."""

    def __init__(self, config: DiTConfig, dropout: float) -> None:
        super().__init__()
        self.norm1, self.norm2 = (RMSNorm(config.channels, NORM_EPS) for _ in range(2))
        self.attention, self.mlp = Attention(config), SwiGLU(config.channels, dropout)
        self.dropout = nn.Dropout(dropout)
        self.modulation = _modulation(config.channels, 6)

    def forward(self, x: Tensor, shared: Tensor, angles: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.modulation(shared).to(x.dtype)[:, None].chunk(6, dim=-1)
        x = x + gate1 * self.dropout(self.attention(self.norm1(x) * (1 + scale1) + shift1, angles))
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class DiT(nn.Module):
    """Predicts the image, or another quantity, from a noisy image."""

    def __init__(self, config: DiTConfig) -> None:
        super().__init__()
        self.config = config
        channels, middle = config.channels, range(config.depth // 4, config.depth // 4 * 3)
        self.time_mlp = _mlp(TIME_FEATURES, channels)
        if config.num_classes is not None:
            self.label_emb = _embedding(config.num_classes + 1, channels)
        if config.vector_size:
            self.vector_mlp = _mlp(config.vector_size, channels)
        if config.context_tokens:
            self.context = _embedding(config.context_tokens, channels)
        self.narrow = Convolution(config.in_channels, config.bottleneck, config.patch, config.patch, bias=False)
        nn.init.xavier_uniform_(self.narrow.weight.flatten(1))
        self.widen = _linear(config.bottleneck, channels)
        self.blocks = nn.ModuleList(
            [Block(config, config.dropout if i in middle else 0.0) for i in range(config.depth)]
        )
        self.norm_out = RMSNorm(channels, NORM_EPS)
        self.modulation_out = _modulation(channels, 2)
        self.out = LastConvolution(channels, config.patch**2 * config.out_channels, 1)
        for weight in self.out.parameters():
            nn.init.zeros_(weight)

    def forward(self, x: Tensor, t: Tensor, *, labels: Tensor | None = None, vector: Tensor | None = None) -> Tensor:
        """Returns the prediction. The arguments are those of `UNet`; t is of 1000 timesteps, or 1000 s of a flow."""
        config, patch = self.config, self.config.patch
        rows, columns = x.shape[-2] // patch, x.shape[-1] // patch
        features = sinusoidal_embedding(1 - t.float() / PURE_NOISE, TIME_FEATURES, order="cos_sin")
        time = self.time_mlp(features)
        conditions = self._conditions(time, labels, vector)
        shared = F.silu(time + conditions)
        down, right = torch.arange(rows, device=x.device), torch.arange(columns, device=x.device)
        down, right = down.repeat_interleave(columns), right.repeat(rows)  # of each token
        places = torch.cat([sinusoidal_embedding(each, config.channels // 2) for each in (right, down)], dim=1)
        angles = _angles(down, right, config.channels // config.heads)
        tokens = _each(self.widen, self.narrow(x).flatten(2).transpose(1, 2))
        tokens = tokens + places.to(tokens.dtype)
        for i, block in enumerate(self.blocks):
            if config.context_tokens and i == config.context_start:
                context = (conditions[:, None] + self.context.weight).to(tokens.dtype)
                tokens = torch.cat([context, tokens], dim=1)
                angles = F.pad(angles, (0, 0, config.context_tokens, 0))  # nothing is turned there
            tokens = block(tokens, shared, angles)
        tokens = tokens[:, config.context_tokens :]
        shift, scale = self.modulation_out(shared).to(tokens.dtype)[:, None].chunk(2, dim=-1)
        out = _each(self.out, self.norm_out(tokens) * (1 + scale) + shift)
        pixels = out.reshape(len(x), rows, columns, patch, patch, config.out_channels).permute(0, 5, 1, 3, 2, 4)
        return pixels.reshape(len(x), config.out_channels, *x.shape[-2:])

    def _conditions(self, time: Tensor, labels: Tensor | None, vector: Tensor | None) -> Tensor:
        """Returns class and conditions as one vector, shape of `time`, (B, channels)."""
        conditions = torch.zeros_like(time)
        if self.config.num_classes is not None:
            if labels is None:
                labels = torch.full((len(time),), self.config.num_classes, device=time.device)
            conditions = conditions + self.label_emb(labels)
        if self.config.vector_size:
            conditions = conditions + self.vector_mlp(vector)
        return conditions


def _angles(down: Tensor, right: Tensor, width: int) -> Tensor:
    """Returns the angles of a head's pairs of channels, (N, width / 2), by row and column (Su et al. 2021)."""
    exponents = torch.arange(0, width // 2, 2, device=down.device) / (width // 2)
    frequencies = THETA**-exponents
    return torch.cat([each[:, None] * frequencies for each in (down, right)], dim=1)


def _turned(x: Tensor, angles: Tensor) -> Tensor:
    """Returns x, shape (..., N, width), with each pair of channels turned by its angle."""
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., ::2], x[..., 1::2]
    return torch.stack([first * cos - second * sin, second * cos + first * sin], dim=-1).flatten(-2)


def _linear(channels_in: int, channels_out: int) -> Convolution:
    """Makes a linear layer for tokens. As a convolution of 1x1 it gives them the same bits in a batch of any size."""
    layer = Convolution(channels_in, channels_out, 1)
    nn.init.xavier_uniform_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _each(layer: Convolution, tokens: Tensor) -> Tensor:
    """Returns the outcome of a linear layer for each token, which stand as the pixels of an image of height 1."""
    rows = tokens.reshape(len(tokens), 1, *tokens.shape[1:]).permute(0, 3, 1, 2)
    out: Tensor = layer(rows)
    return out.permute(0, 2, 3, 1).reshape(*tokens.shape[:2], -1)


def _modulation(channels: int, parts: int) -> RowLinear:
    """Makes the layer that scales, shifts and gates; it begins as zero, so that a block begins as the identity."""
    layer = RowLinear(channels, parts * channels)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def _mlp(features: int, channels: int) -> nn.Sequential:
    layers = RowLinear(features, channels), RowLinear(channels, channels)
    for layer in layers:
        nn.init.normal_(layer.weight, std=0.02)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.SiLU(), layers[1])


def _embedding(rows: int, channels: int) -> nn.Embedding:
    # Without the initialisation of nn.Embedding, which imports torch's compiler.
    return nn.Embedding(rows, channels, _weight=0.02 * torch.randn(rows, channels))
