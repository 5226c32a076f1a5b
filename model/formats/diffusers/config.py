"""Translates the config files of a diffusers folder to a `ModelConfig`. It needs no torch: front ends use it too.

There are two layouts: `unet/` and `scheduler/`, as pipelines are saved today, and an older one with all files in one
folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from model.errors import CheckpointError, CheckpointUnreadable
from model.folders.bounds import Bound, bounds_of, check_numbers
from model.folders.config import ModelConfig
from model.folders.config_json import FORMAT, config_from_json
from model.folders.files import is_file, is_folder, read_json, require_file
from model.networks.configs import UNetConfig
from model.plans.clipping import Clipping
from model.plans.schedule_config import ScheduleConfig
from model.shape import Shape

from .network import network_from_diffusers
from .scheduler import scheduler_from_diffusers

INDEX, CONFIG, SCHEDULER = "model_index.json", "config.json", "scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"

# The bounds of our fields under diffusers' names.
_MODEL, _UNET, _SCHEDULE, _CLIPPING = map(bounds_of, (ModelConfig, UNetConfig, ScheduleConfig, Clipping))
NETWORK_BOUNDS = {
    "sample_size": _MODEL["image_size"],
    "block_out_channels": Bound(1, 32_768, most=8),
    "layers_per_block": _UNET["num_res_blocks"],
    "attention_head_dim": _UNET["head_channels"],
    "norm_num_groups": _UNET["groups"],
    "num_class_embeds": _UNET["num_classes"],
    **{name: _UNET[name] for name in ("in_channels", "out_channels", "freq_shift", "norm_eps", "dropout")},
}
SCHEDULER_BOUNDS = {
    **{name: _SCHEDULE[name] for name in ("num_train_timesteps", "beta_start", "beta_end", "shift")},
    "clip_sample_range": _CLIPPING["bound"],
    "sample_max_value": _CLIPPING["bound"],
    "dynamic_thresholding_ratio": _CLIPPING["quantile"],
}


def is_diffusers(folder: Path) -> bool:
    """Returns whether a folder holds a pipeline or a network of diffusers, usable or not.

    Raises CheckpointUnreadable if the disk does not tell.
    """
    if is_file(folder / INDEX) or is_file(folder / "unet" / CONFIG):
        return True
    try:
        return "_class_name" in read_json(folder, CONFIG)
    except CheckpointUnreadable:
        raise
    except CheckpointError:
        return False


def read_diffusers_config(folder: Path) -> ModelConfig:
    """Reads the config of a folder without its weights.

    Raises CheckpointError if a file is missing, or describes a network or sampler that ours cannot reproduce.
    """
    if is_file(folder / INDEX):
        _check_index(read_json(folder, INDEX))
    network = read_json(folder, find_part(folder, "unet", CONFIG))
    scheduler = read_json(folder, find_part(folder, "scheduler", SCHEDULER))
    check_numbers(CONFIG, network, NETWORK_BOUNDS)
    check_numbers(SCHEDULER, scheduler, SCHEDULER_BOUNDS)
    try:
        return config_from_json(_translate(network, scheduler))
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{CONFIG} or {SCHEDULER} cannot be used: {error}") from error


def find_part(folder: Path, part: str, name: str) -> str:
    """Returns the path of a file of a part (`unet` or `scheduler`) in either layout, relative to the folder."""
    return f"{part}/{name}" if is_folder(folder / part) else name


def find_weights(folder: Path) -> str:
    """Returns the path of the weights in either layout, relative to the folder.

    Raises CheckpointError if the weights are missing.
    """
    weights = find_part(folder, "unet", WEIGHTS)
    try:
        require_file(folder, weights)
    except CheckpointUnreadable:
        raise
    except CheckpointError as error:
        raise CheckpointError(f"{error}; `difuso convert` turns pickled weights into safetensors") from error
    return weights


def _check_index(index: Mapping[str, Any]) -> None:
    """Refuses a pipeline with further parts, such as a decoder, because unet and scheduler alone draw no images."""
    parts = {name for name, value in index.items() if isinstance(value, list) and value and value[0] is not None}
    if others := parts - {"unet", "scheduler"}:
        raise CheckpointError(f"{INDEX} cannot be used: its pipeline has a {min(others)} besides unet and scheduler")


def _translate(network: Mapping[str, Any], scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the content of our config.json."""
    ours = network_from_diffusers(network)
    fields = scheduler_from_diffusers(scheduler)
    learned = ours["out_channels"] == 2 * ours["in_channels"]
    if learned and fields["variance"] != "learned_range":
        raise CheckpointError(
            f"{SCHEDULER} cannot be used: variance_type must be learned_range, because the network learned its variance"
        )
    size = network.get("sample_size")
    sides = size if isinstance(size, list) else [size, size]
    if len(sides) != 2 or not all(isinstance(side, int) for side in sides):
        raise CheckpointError(
            f"{CONFIG} cannot be used: sample_size must be a number, or height and width, not {size!r}"
        )
    classes = None if ours["num_classes"] is None else [str(i) for i in range(ours["num_classes"])]
    return {
        "format": FORMAT,
        "network": {"type": "unet", **ours},
        "image_size": Shape(ours["in_channels"], *sides).image_size,
        "channels": ours["in_channels"],
        "classes": classes,
        **fields,
    }
