"""The configs of the networks that were published with noise levels in place of timesteps. They need no torch."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from .network_config import Blocks, Channels, Classes, Embedding, Heads, LevelledConfig, Levels, Share, WholeMultiples

Filter = Literal["box", "binomial"]
Encoder = Literal["standard", "skip", "residual"]
Decoder = Literal["standard", "skip"]


@dataclass(frozen=True)
class _SigmaConfig(LevelledConfig):
    """The common part of both networks: the order of their layers."""

    channel_mult: WholeMultiples = (2, 2, 2)
    num_res_blocks: Blocks = 4  # residual blocks per level on the way down (one more on the way up)

    def encoder_places(self) -> Iterator[tuple[str, int, int]]:
        """Yields (kind, level, number) of each layer of the downward half."""
        for level in range(len(self.channel_mult)):
            yield "conv" if level == 0 else "down", level, 0
            yield from self._seen_again(level)
            for block in range(self.num_res_blocks):
                yield "block", level, block

    def decoder_places(self) -> Iterator[tuple[str, int, int]]:
        """Yields (kind, level, number) of each layer of the upward half."""
        last = len(self.channel_mult) - 1
        for level in range(last, -1, -1):
            if level == last:
                yield "middle", level, 0
                yield "middle", level, 1
            else:
                yield "up", level, 0
            for block in range(self.num_res_blocks + 1):
                yield "block", level, block
            yield from self._outputs(level)

    def _seen_again(self, level: int) -> Iterator[tuple[str, int, int]]:
        """Yields the layer through which a coarser level sees the image, if there is one."""
        yield from ()

    def _outputs(self, level: int) -> Iterator[tuple[str, int, int]]:
        """Yields the layer that makes the output of a level, if there is one."""
        yield from ()


@dataclass(frozen=True)
class SongUNetConfig(_SigmaConfig):
    """The config of a `SongUNet`, by default the DDPM++ of Karras et al. 2022 for CIFAR-10.

    Raises ValueError if a width is not a multiple of its groups.
    """

    # levels (0 the finest) with self-attention after every block on the way down, and after the last on the way up; the
    # middle always has it
    attention_levels: Levels = (1,)
    noise_channels: Embedding = 128  # size of the embedding of the noise level, an even number
    emb_channels: Annotated[int, Field(ge=1, le=16_384)] = 512  # size of the embedding that the blocks get
    # whether the noise level is embedded with random frequencies, which are part of the weights, and not with geometric
    # ones
    fourier: bool = False
    # how coarser levels see the image too: not at all (`standard`), by adding the shrunken image (`skip`) or through
    # convolutions of their own (`residual`)
    encoder: Encoder = "standard"
    # whether the output is that of the finest level (`standard`) or a sum of those of all levels (`skip`)
    decoder: Decoder = "standard"
    resample: Filter = "box"  # filter of halving and doubling: `box` is [1, 1], `binomial` is [1, 3, 3, 1]
    dropout: Share = 0.0  # dropout inside the residual blocks while training, 0..1
    num_classes: Classes | None = None  # size of the class embedding, None for a network without classes
    null_class: bool = True  # whether the class embedding has one more row, the last, for "no class"

    def __post_init__(self) -> None:
        if self.noise_channels % 2 or self.noise_channels < 4:
            raise ValueError(f"noise_channels must be even and at least 4, not {self.noise_channels}")
        for width in (self.channels, *self.widths):
            if width < 4 or width % min(32, width // 4):
                raise ValueError(f"a width of {width} channels cannot be divided into groups of at least 4, at most 32")

    def _seen_again(self, level: int) -> Iterator[tuple[str, int, int]]:
        if level > 0 and self.encoder != "standard":
            yield self.encoder, level, 0

    def _outputs(self, level: int) -> Iterator[tuple[str, int, int]]:
        if level == 0 or self.decoder == "skip":
            yield "out", level, 0


@dataclass(frozen=True)
class EDM2UNetConfig(_SigmaConfig):
    """The config of an `EDM2UNet`, see `SongUNetConfig`; raises ValueError if heads do not divide a width."""

    channels: Channels = 192
    channel_mult: WholeMultiples = (1, 2, 3, 4)
    num_res_blocks: Blocks = 3
    # levels (0 the finest) with self-attention after every block; the middle always has it
    attention_levels: Levels = (2, 3)
    head_channels: Heads = 64  # channels per attention head; divides every width that has attention
    noise_channels: Embedding = 192
    emb_channels: Annotated[int, Field(ge=1, le=16_384)] = 768
    num_classes: Classes | None = None

    def __post_init__(self) -> None:
        for level, width in enumerate(self.widths):
            attends = level in self.attention_levels or level == len(self.widths) - 1
            if attends and width % self.head_channels:
                raise ValueError(
                    f"head_channels {self.head_channels} does not divide the {width} channels of level {level}"
                )

    @property
    def null_class(self) -> bool:
        return self.num_classes is None
