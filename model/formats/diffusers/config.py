"""Translates the config files of a diffusers folder to a `ModelConfig`. It needs no torch: front ends use it too.

There are two layouts: `unet/` and `scheduler/`, as pipelines are saved today, and an older one with all files in one
folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from difuso.model.errors import CheckpointError
from difuso.model.folders.config import ModelConfig
from difuso.model.folders.config_json import FORMAT, config_from_json
from difuso.model.folders.files import is_file, is_folder, read_json, require_file
from difuso.model.shape import Shape

from .network import network_from_diffusers
from .scheduler import scheduler_from_diffusers

INDEX, CONFIG, SCHEDULER = "model_index.json", "config.json", "scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"


def is_diffusers(folder: Path) -> bool:
    """Returns whether a folder is one of diffusers; raises OSError if the disk does not say."""
    if is_file(folder / INDEX) or is_file(folder / "unet" / CONFIG):
        return True
    try:
        return "_class_name" in read_json(folder, CONFIG)
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
    return config_from_json(_translate(network, scheduler))


def find_part(folder: Path, part: str, name: str) -> str:
    """Returns the path of a file of a part (`unet` or `scheduler`) in either layout, relative to the folder."""
    return f"{part}/{name}" if is_folder(folder / part) else name


def deciding_files(folder: Path) -> list[str]:
    """Returns the paths of the files that decide what a folder draws; raises CheckpointError if weights are missing."""
    configs = find_part(folder, "unet", CONFIG), find_part(folder, "scheduler", SCHEDULER)
    return [*configs, find_weights(folder)]


def find_weights(folder: Path) -> str:
    """Returns the path of the weights, relative to the folder; raises CheckpointError if they are missing."""
    weights = find_part(folder, "unet", WEIGHTS)
    require_file(folder, weights)
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
    if (size := network.get("sample_size")) is None:
        raise CheckpointError(f"{CONFIG} cannot be used: sample_size must be a number, or height and width, not None")
    sides = size if isinstance(size, list) else [size, size]
    classes = None if ours["num_classes"] is None else [str(i) for i in range(ours["num_classes"])]
    return {
        "format": FORMAT,
        "network": {"type": "unet", **ours, **fields.pop("network", {})},
        "image_size": Shape(ours["in_channels"], *sides).image_size,
        "channels": ours["in_channels"],
        "classes": classes,
        **fields,
    }
