"""The configs of the networks, as frozen values. They need no torch, because front ends read them too."""

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, Literal

from pydantic import Field

from ..foreign.names import check_allowed, check_name
from ..shape import MAX_CHANNELS, Side
from .network_config import (
    MAX_PLANES,
    MAX_VECTOR,
    Blocks,
    Channels,
    Classes,
    Embedding,
    Groups,
    Heads,
    LevelledConfig,
    Levels,
    Multiples,
    NetworkConfig,
    Patch,
    Share,
)
from .sigma_configs import EDM2UNetConfig, SongUNetConfig

MAX_ARGS = 65_536  # characters of JSON

TimeInjection = Literal["add", "scale_shift"]
TimeOrder = Literal["sin_cos", "cos_sin"]
Resample = Literal["conv", "resblock"]


@dataclass(frozen=True)
class UNetConfig(LevelledConfig):
    """The config of a `UNet`; its `channels` are the size of the timestep embedding too.

    Raises ValueError if a width cannot be divided into groups or heads.
    """

    num_res_blocks: Blocks = 2  # residual blocks per level on the way down (one more on the way up)
    attention_levels: Levels = (2,)  # levels (0 the finest) whose blocks are followed by self-attention
    mid_attention: bool = True  # whether the middle has self-attention too
    head_channels: Heads = 64  # channels per attention head; divides every width that has attention
    heads: Heads | None = None  # the same number of attention heads at every width, instead of `head_channels`
    # how a block uses t: `add` adds a bias, `scale_shift` scales and shifts the second normalisation
    time_injection: TimeInjection = "add"
    time_order: TimeOrder = "sin_cos"  # whether sines or cosines come first in the timestep embedding
    # the embedding's frequencies are 10000^(-i / (half - freq_shift)); 1 in Ho et al.
    freq_shift: Annotated[int, Field(ge=0, le=1)] = 0
    # t is multiplied by this first; 1000 / T where a network was trained on rescaled timesteps
    timestep_scale: Annotated[float, Field(ge=0, le=1000)] = 1.0
    groups: Groups = 32  # number of groups of each group normalisation; divides every width
    norm_eps: Share = 1e-5  # number that is added to the variance in each group normalisation
    dropout: Share = 0.0  # dropout inside the residual blocks while training, 0..1
    # how the resolution changes: by a `conv`, or by a `resblock` (Brock et al. 2019, figure 15), which resamples both
    # of its branches.
    resample: Resample = "conv"
    # whether a downsampling `conv` pads below and to the right only, as TensorFlow does
    asymmetric_downsample: bool = False
    num_classes: Classes | None = None
    # whether the class embedding has one more row, the last, for "no class"; if not, every call needs labels
    null_class: bool = True
    # factor of the pixel-unshuffle stem; 2 turns 64x64x3 into 32x32x12 before the first convolution, which makes the
    # network about four times cheaper
    patch: Patch = 1
    # channels of a decoder at full resolution that sees the noisy pixels too (`PixelHead`); 0 for none
    pixel_head: Annotated[int, Field(ge=0, le=1024)] = 0
    # planes of the images and maps that a conditional network sees with x_t, in every pixel (Saharia et al. 2021,
    # section 2.3); 0 for a network without.
    condition_channels: Annotated[int, Field(ge=0, le=MAX_PLANES)] = 0
    # length of the vector of choices, numbers and vectors that the network takes (`model.conditions`); 0 for a
    # network without
    vector_size: Annotated[int, Field(ge=0, le=MAX_VECTOR)] = 0

    def __post_init__(self) -> None:
        if self.channels % 2 or self.channels <= 2 * self.freq_shift:
            raise ValueError(f"channels must be even, and more than twice freq_shift, got {self.channels}")
        if not self.channel_mult:
            raise ValueError("channel_mult must have a level")
        divides_attention = "head_channels" if self.heads is None else "heads"
        for level, width in enumerate(self.widths):
            attends = level in self.attention_levels or (self.mid_attention and level == len(self.widths) - 1)
            for name in ("groups", divides_attention) if attends else ("groups",):
                if width % getattr(self, name):
                    raise ValueError(
                        f"{name} {getattr(self, name)} does not divide the {width} channels of level {level}"
                    )

    @property
    def size_multiple(self) -> int:
        return self.patch * super().size_multiple

    def down_places(self) -> Iterator[tuple[int, int | None]]:
        """Yields (level, block within it) of each entry of `UNet.down`; block is None for a downsampling layer."""
        for level in range(len(self.channel_mult)):
            for block in range(self.num_res_blocks):
                yield level, block
            if level < len(self.channel_mult) - 1:
                yield level, None

    def up_places(self) -> Iterator[tuple[int, int | None]]:
        """Yields (level, block within it) of each entry of `UNet.up`; block is None for an upsampling layer."""
        for level in reversed(range(len(self.channel_mult))):
            for block in range(self.num_res_blocks + 1):
                yield level, block
            if level > 0:
                yield level, None


@dataclass(frozen=True)
class PaperUNetConfig(NetworkConfig):
    """The config of a `PaperUNet`; the defaults give the paper's 23,332,739 parameters."""

    time_dim: Embedding = 256
    num_classes: Classes | None = None

    def __post_init__(self) -> None:
        if self.time_dim % 2:
            raise ValueError(f"time_dim must be even, for the sines and cosines of time, got {self.time_dim}")

    @property
    def size_multiple(self) -> int:
        return 8


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
    # tokens that hold the class and the other conditions, beside those of the image
    context_tokens: Annotated[int, Field(ge=0, le=256)] = 0
    # the block, counted from 0, before which they join the image's
    context_start: Annotated[int, Field(ge=0, le=63)] = 0
    dropout: Share = 0.0  # dropout in the middle half of the blocks while training, 0..1
    # number of classes, None for an unconditional network; there is always a row for "no class"
    num_classes: Classes | None = None
    # length of the vector that the network takes, see `UNetConfig`
    vector_size: Annotated[int, Field(ge=0, le=MAX_VECTOR)] = 0

    def __post_init__(self) -> None:
        if self.channels % (4 * self.heads):
            raise ValueError(f"channels must be a multiple of 4 times heads, {4 * self.heads}, not {self.channels}")
        if self.context_start >= self.depth:
            raise ValueError(f"context_start must be less than depth, {self.depth}, not {self.context_start}")

    @property
    def size_multiple(self) -> int:
        return self.patch


@dataclass(frozen=True, kw_only=True)
class ForeignConfig(NetworkConfig):
    """The config of a network of another package, and all that is known of it without its code.

    Where a `config.json` leaves out the last three attributes, they follow from its `classes` and `conditions`.

    Raises ValueError if the name is impossible, or the arguments are not values of JSON.
    """

    type: str = ""  # the name of its class, such as `mylab.nets:Denoiser`
    # the arguments by name that make a network of it; values of JSON, whose lists it gets as tuples
    args: Mapping[str, Any] = field(default_factory=dict)
    size_multiple: Annotated[int, Field(ge=1, le=1024)] = 1  # height and width of an image must be multiples of this
    null_class: bool = True  # whether it can be called with the label num_classes, for "no class"
    num_classes: Classes | None = None  # number of classes; None for a network without
    vector_size: Annotated[int, Field(ge=0, le=MAX_VECTOR)] = 0  # length of the vector that it takes
    condition_channels: Annotated[int, Field(ge=0, le=MAX_PLANES)] = 0  # planes of the images and maps that it takes

    def __post_init__(self) -> None:
        check_name(self.type)
        try:
            length = len(json.dumps(dict(self.args)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"args must be values of JSON: {error}") from error
        if length > MAX_ARGS:
            raise ValueError(f"args must have at most {MAX_ARGS} characters as JSON, not {length}")


# The configs of networks that draw images, by the types that config.json and recipes name. A network's module has the
# name of its type, and its class that of its config: `song_unet.SongUNet` is built from `SongUNetConfig`.
NETWORKS: dict[str, type[NetworkConfig]] = {
    "unet": UNetConfig,
    "paper_unet": PaperUNetConfig,
    "song_unet": SongUNetConfig,
    "edm2_unet": EDM2UNetConfig,
    "dit": DiTConfig,
}


@dataclass(frozen=True)
class ClassifierConfig:
    """The config of a `Classifier`; fields that `UNetConfig` also has mean the same there.

    Raises ValueError if a width cannot be divided into groups or heads, or image_size cannot be halved often enough.
    """

    in_channels: Annotated[int, Field(ge=1, le=MAX_CHANNELS)] = 3
    # height and width in pixels; the pooling has an embedding for each position of the last level
    image_size: Side = 64
    num_classes: Classes = 1000  # number of logits
    channels: Channels = 128
    channel_mult: Multiples = (1, 2, 3, 4)
    num_res_blocks: Blocks = 2
    attention_levels: Levels = (1, 2, 3)
    head_channels: Heads = 64
    time_injection: TimeInjection = "scale_shift"
    groups: Groups = 32
    resample: Resample = "resblock"
    patch: Patch = 1  # factor of the pixel-unshuffle stem, as that of a U-Net

    def __post_init__(self) -> None:
        multiple = self.unet.size_multiple
        if self.image_size <= 0 or self.image_size % multiple:
            raise ValueError(f"image_size of a classifier must be a multiple of {multiple}, got {self.image_size}")

    @property
    def unet(self) -> UNetConfig:
        """The U-Net whose downward half this is."""
        own = ("image_size", "num_classes")
        shared = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in own}
        return UNetConfig(**shared, time_order="cos_sin")


CLASSIFIER = "classifier"
NETWORK_KINDS: dict[str, type[NetworkConfig | ClassifierConfig]] = {**NETWORKS, CLASSIFIER: ClassifierConfig}


def kind_of(config: NetworkConfig | ClassifierConfig) -> str:
    """Returns the type that configs and recipes name a network by."""
    if isinstance(config, ForeignConfig):
        return config.type
    return next(kind for kind, config_type in NETWORK_KINDS.items() if type(config) is config_type)


def network_to_json(config: NetworkConfig | ClassifierConfig) -> dict[str, Any]:
    """Returns a network's config as config.json and recipes hold it."""
    return {"type": kind_of(config), **asdict(config)}


def check_networks(networks: Collection[NetworkConfig | None], allowed: Collection[str]) -> None:
    """Raises CheckpointError if one of these networks is of another package and may not be imported."""
    for network in networks:
        if isinstance(network, ForeignConfig):
            check_allowed(network.type, allowed)
