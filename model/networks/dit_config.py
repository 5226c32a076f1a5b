"""The config of the pixel transformer, as a frozen value. It needs no torch, because front ends read it too."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from .network_config import MAX_VECTOR, Channels, Classes, Heads, NetworkConfig, Patch, Share


@dataclass(frozen=True)
class DiTConfig(NetworkConfig):
    """The config of a `DiT`; the defaults suit images of 64 pixels. JiT-B/16 has 768 channels and a patch of 16.

    Raises ValueError if the width cannot be divided into heads, or no block sees the context.
    """

    channels: Channels = 384  # the width, which the heads divide into multiples of 4
    depth: Annotated[int, Field(ge=1, le=64)] = 12  # number of blocks
    heads: Heads = 6  # number of attention heads
    patch: Patch = 4  # height and width of the patches, one token each
    bottleneck: Channels = 128  # channels that each patch passes on its way to a token
    # tokens that hold the class and what else the network is told, beside those of the image
    context_tokens: Annotated[int, Field(ge=0, le=256)] = 0
    # the block, counted from 0, before which they join the image's
    context_start: Annotated[int, Field(ge=0, le=63)] = 0
    dropout: Share = 0.0  # dropout in the middle half of the blocks while training, 0..1
    # number of classes, None for an unconditional network; there is always a row for "no class"
    num_classes: Classes | None = None
    # length of the vector that the network is told, see `UNetConfig`
    vector_size: Annotated[int, Field(ge=0, le=MAX_VECTOR)] = 0

    def __post_init__(self) -> None:
        if self.channels % (4 * self.heads):
            raise ValueError(f"channels must be a multiple of 4 times heads, {4 * self.heads}, not {self.channels}")
        if self.context_start >= self.depth:
            raise ValueError(f"context_start must be less than depth, {self.depth}, not {self.context_start}")

    @property
    def size_multiple(self) -> int:
        return self.patch
