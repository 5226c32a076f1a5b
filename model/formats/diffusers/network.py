"""Translates the config of diffusers' UNet2DModel to `UNetConfig` and back (as of diffusers 0.42)."""

from collections.abc import Mapping
from typing import Any, Literal

from model.errors import CheckpointError
from model.networks.configs import UNetConfig

from ..widths import multiple

CLASS = "UNet2DModel"

# The values that UNet2DModel uses for fields that are missing in its config.json.
DEFAULTS: dict[str, Any] = {
    "sample_size": None,
    "in_channels": 3,
    "out_channels": 3,
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "time_embedding_dim": None,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"],
    "mid_block_type": "UNetMidBlock2D",
    "up_block_types": ["AttnUpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
    "block_out_channels": [224, 448, 672, 896],
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "downsample_padding": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "dropout": 0.0,
    "act_fn": "silu",
    "attention_head_dim": 8,
    "norm_num_groups": 32,
    "attn_norm_num_groups": None,
    "norm_eps": 1e-5,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
    "class_embed_type": None,
    "num_class_embeds": None,
    "num_train_timesteps": None,  # used by learned time embeddings only
}

# Fields of which only some values are supported, because our network has no counterpart of the others.
KNOWN: dict[str, tuple[Any, ...]] = {
    "center_input_sample": (False,),
    "time_embedding_type": ("positional",),
    "mid_block_type": ("UNetMidBlock2D",),
    "mid_block_scale_factor": (1,),
    "downsample_padding": (0, 1),
    "downsample_type": ("conv", "resnet"),
    "upsample_type": ("conv", "resnet"),
    "act_fn": ("silu", "swish"),
    "resnet_time_scale_shift": ("default", "scale_shift"),
    "add_attention": (True,),
    "class_embed_type": (None,),
}

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


def network_from_diffusers(content: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the fields of the `UNetConfig` that gives the same network as a UNet2DModel's config.json.

    Raises CheckpointError if there is no such network of ours; the message names the field at fault.
    """
    if content.get("_class_name") != CLASS:
        raise _refusal(f"it describes {content.get('_class_name')!r}; only {CLASS} is supported")
    if unknown := {name for name in content if not name.startswith("_")} - DEFAULTS.keys():
        raise _refusal(f"unknown field {min(unknown)!r}")
    said = {**DEFAULTS, **content}
    for name, known in KNOWN.items():
        if said[name] not in known:
            raise _refusal(f"{name} must be {' or '.join(map(repr, known))}, not {said[name]!r}")
    widths = said["block_out_channels"]
    if said["time_embedding_dim"] not in (None, 4 * widths[0]):
        raise _refusal(f"time_embedding_dim must be 4 times the first width, not {said['time_embedding_dim']}")
    if said["attn_norm_num_groups"] is None and said["resnet_time_scale_shift"] == "scale_shift":
        raise _refusal("without attn_norm_num_groups the attention in the middle has no normalisation")
    if said["attn_norm_num_groups"] not in (None, said["norm_num_groups"]):
        raise _refusal("attn_norm_num_groups differs from norm_num_groups")
    attention_levels, resample = _read_blocks(said)
    head_channels = said["attention_head_dim"]
    return {
        "in_channels": said["in_channels"],
        "out_channels": said["out_channels"],
        "channels": widths[0],
        "channel_mult": [multiple(width, widths[0]) for width in widths],
        "num_res_blocks": said["layers_per_block"],
        "attention_levels": attention_levels,
        **({"heads": 1} if head_channels is None else {"head_channels": head_channels}),
        "time_injection": TIME_INJECTION[said["resnet_time_scale_shift"]],
        "time_order": "cos_sin" if said["flip_sin_to_cos"] else "sin_cos",
        "freq_shift": said["freq_shift"],
        "groups": said["norm_num_groups"],
        "norm_eps": said["norm_eps"],
        "dropout": said["dropout"],
        "resample": resample,
        "asymmetric_downsample": resample == "conv" and said["downsample_padding"] == 0,
        "num_classes": said["num_class_embeds"],
        "null_class": said["num_class_embeds"] is None,
    }


def network_to_diffusers(config: UNetConfig) -> dict[str, Any]:
    """Returns the config.json of a UNet2DModel, without sample_size; the reverse of `network_from_diffusers`.

    The null class becomes a class, the last one.

    Raises CheckpointError if UNet2DModel has no such network; the message names the field at fault.
    """
    for name in ("patch", "pixel_head", "condition_channels", "mid_attention"):
        if (value := getattr(config, name)) != getattr(UNetConfig, name):
            raise CheckpointError(f"diffusers has no equivalent of {name} {value}")
    if config.timestep_scale != 1:
        raise CheckpointError(f"diffusers has no equivalent of timestep_scale {config.timestep_scale}")
    if config.widths[0] != config.channels:
        raise CheckpointError(
            f"diffusers has no equivalent of channel_mult {config.channel_mult}: it must begin with 1"
        )
    resample = _inverse(RESAMPLE)[config.resample]
    return {
        **DEFAULTS,
        "_class_name": CLASS,
        "in_channels": config.in_channels,
        "out_channels": config.out_channels,
        "freq_shift": config.freq_shift,
        "flip_sin_to_cos": config.time_order == "cos_sin",
        "down_block_types": _write_blocks(config, "down"),
        "up_block_types": _write_blocks(config, "up"),
        "block_out_channels": list(config.widths),
        "layers_per_block": config.num_res_blocks,
        "downsample_padding": 0 if config.asymmetric_downsample else 1,
        "downsample_type": resample,
        "upsample_type": resample,
        "dropout": config.dropout,
        "attention_head_dim": _head_channels(config),
        "norm_num_groups": config.groups,
        "attn_norm_num_groups": config.groups,
        "norm_eps": config.norm_eps,
        "resnet_time_scale_shift": _inverse(TIME_INJECTION)[config.time_injection],
        "num_class_embeds": None if config.num_classes is None else config.num_classes + config.null_class,
    }


def _read_blocks(said: Mapping[str, Any]) -> tuple[tuple[int, ...], str]:
    """Returns (attention_levels, resample); the up blocks must mirror the down blocks."""
    levels = len(said["block_out_channels"])
    attention: dict[str, tuple[int, ...]] = {}
    resample = set()
    for side, known in BLOCKS.items():
        kinds = said[f"{side}_block_types"][:: 1 if side == "down" else -1]
        if unknown := set(kinds) - known.keys():
            raise _refusal(f"{side}_block_types has {min(unknown)!r}; supported are {', '.join(known)}")
        if len(kinds) != levels:
            raise _refusal(f"{side}_block_types has {len(kinds)} entries, but block_out_channels has {levels}")
        attention[side] = tuple(level for level, kind in enumerate(kinds) if known[kind][0])
        resampling = kinds[:-1] if side == "down" else kinds[1:]
        resample |= {known[kind][1] or RESAMPLE[said[f"{side}sample_type"]] for kind in resampling}
    if attention["up"] != attention["down"]:
        raise _refusal("up_block_types and down_block_types must have attention at the same levels")
    if len(resample) > 1:
        raise _refusal("all blocks must resample in the same way: by convolution or by residual blocks")
    return attention["down"], min(resample, default="conv")


def _write_blocks(config: UNetConfig, side: Literal["down", "up"]) -> list[str]:
    kinds = _inverse(BLOCKS[side])
    types = [
        kinds[(True, None) if level in config.attention_levels else (False, config.resample)]
        for level in range(len(config.widths))
    ]
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


def _refusal(reason: str) -> CheckpointError:
    return CheckpointError(f"config.json cannot be used: {reason}")
