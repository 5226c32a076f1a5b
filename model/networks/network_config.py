"""The common parts of the configs of networks, and types of fields, with bounds. It needs no torch."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from ..shape import MAX_CHANNELS

MAX_CLASSES = 65_536
MAX_VECTOR = 65_536  # entries of the vector that a network takes
MAX_PLANES = 256  # that a network sees beside x_t

Channels = Annotated[int, Field(ge=1, le=2048)]
Multiples = Annotated[tuple[Annotated[float, Field(ge=1 / 16, le=64)], ...], Field(max_length=8)]
WholeMultiples = Annotated[tuple[Annotated[int, Field(ge=1, le=64)], ...], Field(max_length=8)]
Blocks = Annotated[int, Field(ge=1, le=8)]
Levels = Annotated[tuple[Annotated[int, Field(ge=0, le=7)], ...], Field(max_length=8)]
Heads = Annotated[int, Field(ge=1, le=4096)]  # or channels of one
Groups = Annotated[int, Field(ge=1, le=1024)]
Share = Annotated[float, Field(ge=0, le=1)]
Embedding = Annotated[int, Field(ge=2, le=4096)]
Patch = Annotated[int, Field(ge=1, le=32)]
Classes = Annotated[int, Field(ge=1, le=MAX_CLASSES)]


@dataclass(frozen=True)
class NetworkConfig(ABC):
    """The fields that every network's config has; some have others in place of the properties."""

    in_channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] = 3  # channels of the images
    # channels of the output: in_channels, or twice as many if the network learned its variance
    out_channels: Annotated[int, Field(ge=1, le=2 * MAX_CHANNELS)] = 3

    @property
    def num_classes(self) -> int | None:
        """Number of classes; None for a network without classes."""
        return None

    @property
    def null_class(self) -> bool:
        """Whether the network can be called without a label."""
        return True

    @property
    def condition_channels(self) -> int:
        """Planes of the images and maps that a conditional network sees with x_t; 0 for any other network."""
        return 0

    @property
    def vector_size(self) -> int:
        """Length of the vector of choices, numbers and vectors that the network takes; 0 if it takes none."""
        return 0

    @property
    @abstractmethod
    def size_multiple(self) -> int:
        """Height and width of an image must be multiples of this."""


@dataclass(frozen=True)
class LevelledConfig(NetworkConfig):
    """The fields that the config of every U-Net with levels has; each further level halves the resolution."""

    channels: Channels = 128  # the base width
    channel_mult: Multiples = (1, 2, 2, 2)  # width of each level, as a multiple of `channels`

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level."""
        return tuple(int(self.channels * mult) for mult in self.channel_mult)

    @property
    def size_multiple(self) -> int:
        return int(2 ** (len(self.channel_mult) - 1))


def multiple(width: int, channels: int) -> float:
    """Returns the entry of `LevelledConfig.channel_mult` that gives this width."""
    if width % channels == 0:
        return width // channels
    mult = width / channels
    return mult if int(channels * mult) == width else math.nextafter(mult, math.inf)
