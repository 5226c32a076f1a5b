"""Translates the config of diffusers' UNet2DModel to `UNetConfig` and back (as of diffusers 0.42)."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field

from difuso.model.errors import CheckpointError, refused
from difuso.model.folders.parsing import parse
from difuso.model.networks.configs import UNetConfig
from difuso.model.networks.network_config import Blocks, Channels, Classes, Groups, Heads, Share, multiple
from difuso.model.shape import ImageSize

CLASS = "UNet2DModel"
Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=32_768)], ...], Field(min_length=1, max_length=8)]


@dataclass(frozen=True, kw_only=True)
class UNet2D:
    """The config.json of a UNet2DModel, with its defaults; values that are not listed have no counterpart of ours."""

    sample_size: ImageSize | None = None
    in_channels: Channels = 3
    out_channels: Channels = 3
    center_input_sample: Literal[False] = False
    time_embedding_type: Literal["positional"] = "positional"
    time_embedding_dim: int | None = None
    freq_shift: int = 0
    flip_sin_to_cos: bool = True
    down_block_types: tuple[str, ...] = ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D")
    mid_block_type: Literal["UNetMidBlock2D"] = "UNetMidBlock2D"
    up_block_types: tuple[str, ...] = ("AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D")
    block_out_channels: Widths = (224, 448, 672, 896)
    layers_per_block: Blocks = 2
    mid_block_scale_factor: Literal[1] = 1
    downsample_padding: Literal[0, 1] = 1
    downsample_type: Literal["conv", "resnet"] = "conv"
    upsample_type: Literal["conv", "resnet"] = "conv"
    dropout: Share = 0.0
    act_fn: Literal["silu", "swish"] = "silu"
    attention_head_dim: Heads | None = 8
    norm_num_groups: Groups = 32
    attn_norm_num_groups: Groups | None = None
    norm_eps: Share = 1e-5
    resnet_time_scale_shift: Literal["default", "scale_shift"] = "default"
    add_attention: Literal[True] = True
    class_embed_type: None = None
    num_class_embeds: Classes | None = None
    num_train_timesteps: int | None = None  # used by learned time embeddings only


# Whether a kind of block has attention, and how it resamples; None means by downsample_type or upsample_type.
BLOCKS: dict[str, dict[str, tuple[bool, str | None]]] = {
    "down": {
        "DownBlock2D": (False, "conv"),
        "ResnetDownsampleBlock2D": (False, "resblock"),
        "AttnDownBlock2D": (True, None),
    },
    "up": {
        "UpBlock2D": (False, "conv"),
        "ResnetUpsampleBlock2D": (False, "resblock"),
        "AttnUpBlock2D": (True, None),
    },
}
RESAMPLE = {"conv": "conv", "resnet": "resblock"}
TIME_INJECTION = {"default": "add", "scale_shift": "scale_shift"}


@refused("config.json cannot be used")
def network_from_diffusers(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of the `UNetConfig` that gives the same network as a UNet2DModel's config.json.

    Raises CheckpointError if there is no such network of ours; the message names the field at fault.
    """
    if content.get("_class_name") != CLASS:
        raise ValueError(f"it describes {content.get('_class_name')!r}; only {CLASS} is supported")
    said = parse(UNet2D, {name: value for name, value in content.items() if not name.startswith("_")})
    widths = said.block_out_channels
    if said.time_embedding_dim not in (None, 4 * widths[0]):
        raise ValueError(f"time_embedding_dim must be 4 times the first width, not {said.time_embedding_dim}")
    if said.attn_norm_num_groups is None and said.resnet_time_scale_shift == "scale_shift":
        raise ValueError("without attn_norm_num_groups the attention in the middle has no normalisation")
    if said.attn_norm_num_groups not in (None, said.norm_num_groups):
        raise ValueError("attn_norm_num_groups differs from norm_num_groups")
    attention_levels, resample = _read_blocks(said)
    head_channels = said.attention_head_dim
    return {
        "in_channels": said.in_channels,
        "out_channels": said.out_channels,
        "channels": widths[0],
        "channel_mult": [multiple(width, widths[0]) for width in widths],
        "num_res_blocks": said.layers_per_block,
        "attention_levels": attention_levels,
        **({"heads": 1} if head_channels is None else {"head_channels": head_channels}),
        "time_injection": TIME_INJECTION[said.resnet_time_scale_shift],
        "time_order": "cos_sin" if said.flip_sin_to_cos else "sin_cos",
        "freq_shift": said.freq_shift,
        "groups": said.norm_num_groups,
        "norm_eps": said.norm_eps,
        "dropout": said.dropout,
        "resample": resample,
        "asymmetric_downsample": resample == "conv" and said.downsample_padding == 0,
        "num_classes": said.num_class_embeds,
        "null_class": said.num_class_embeds is None,
    }


def network_to_diffusers(config: UNetConfig) -> dict[str, Any]:
    """Returns the config.json of a UNet2DModel, without sample_size; the null class becomes the last class.

    Raises CheckpointError if UNet2DModel has no such network; the message names the field at fault.
    """
    for name in ("patch", "pixel_head", "vector_size", "condition_channels", "mid_attention"):
        if (value := getattr(config, name)) != getattr(UNetConfig, name):
            raise CheckpointError(f"diffusers has no equivalent of {name} {value}")
    if config.timestep_scale != 1:
        raise CheckpointError(f"diffusers has no equivalent of timestep_scale {config.timestep_scale}")
    if config.widths[0] != config.channels:
        raise CheckpointError(
            f"diffusers has no equivalent of channel_mult {config.channel_mult}: it must begin with 1"
        )
    resample: Any = _inverse(RESAMPLE)[config.resample]
    injection: Any = _inverse(TIME_INJECTION)[config.time_injection]
    written = UNet2D(
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        freq_shift=config.freq_shift,
        flip_sin_to_cos=config.time_order == "cos_sin",
        down_block_types=_write_blocks(config, "down"),
        up_block_types=_write_blocks(config, "up"),
        block_out_channels=config.widths,
        layers_per_block=config.num_res_blocks,
        downsample_padding=0 if config.asymmetric_downsample else 1,
        downsample_type=resample,
        upsample_type=resample,
        dropout=config.dropout,
        attention_head_dim=_head_channels(config),
        norm_num_groups=config.groups,
        attn_norm_num_groups=config.groups,
        norm_eps=config.norm_eps,
        resnet_time_scale_shift=injection,
        num_class_embeds=None if config.num_classes is None else config.num_classes + config.null_class,
    )
    return {"_class_name": CLASS, **dataclasses.asdict(written)}


def _read_blocks(said: UNet2D) -> tuple[tuple[int, ...], str]:
    """Returns (attention_levels, resample); the up blocks must mirror the down blocks."""
    levels = len(said.block_out_channels)
    attention: dict[str, tuple[int, ...]] = {}
    resample = set()
    for side, known in BLOCKS.items():
        kinds = getattr(said, f"{side}_block_types")[:: 1 if side == "down" else -1]
        if unknown := set(kinds) - known.keys():
            raise ValueError(f"{side}_block_types has {min(unknown)!r}; supported are {', '.join(known)}")
        if len(kinds) != levels:
            raise ValueError(f"{side}_block_types has {len(kinds)} entries, but block_out_channels has {levels}")
        attention[side] = tuple(level for level, kind in enumerate(kinds) if known[kind][0])
        resampling = kinds[:-1] if side == "down" else kinds[1:]
        resample |= {known[kind][1] or RESAMPLE[getattr(said, f"{side}sample_type")] for kind in resampling}
    if attention["up"] != attention["down"]:
        raise ValueError("up_block_types and down_block_types must have attention at the same levels")
    if len(resample) > 1:
        raise ValueError("all blocks must resample in the same way: by convolution or by residual blocks")
    return attention["down"], min(resample, default="conv")


def _write_blocks(config: UNetConfig, side: Literal["down", "up"]) -> tuple[str, ...]:
    kinds = _inverse(BLOCKS[side])
    types = tuple(
        kinds[(True, None) if level in config.attention_levels else (False, config.resample)]
        for level in range(len(config.widths))
    )
    return types if side == "down" else types[::-1]


def _head_channels(config: UNetConfig) -> int | None:
    """Returns attention_head_dim: the channels per head, or None for a single head at every width."""
    if config.heads is None or config.heads == 1:
        return config.head_channels if config.heads is None else None
    deepest = len(config.widths) - 1
    attended = {width for level, width in enumerate(config.widths) if level in (*config.attention_levels, deepest)}
    if len(attended) > 1:
        raise CheckpointError(f"diffusers has no equivalent of heads {config.heads} at several widths")
    return attended.pop() // config.heads


def _inverse(table: Mapping[str, Any]) -> dict[Any, str]:
    return {value: name for name, value in table.items()}
