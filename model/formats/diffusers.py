"""Folders of diffusers: a UNet2DModel with its scheduler, read as they are and written.

There are two layouts: `unet/` and `scheduler/` as pipelines are saved today, and the older one with everything in one
folder. Only safetensors is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..bounds import DIFFUSERS_NETWORK, DIFFUSERS_SCHEDULER, check_numbers
from ..config import FORMAT, ModelConfig, config_from_json
from ..errors import CheckpointError
from ..files import SUMS, read_json, read_shapes, require_file
from ..folder import Stored, checked_sums, file_sha256, new_folder, read_safetensors
from ..networks.configs import UNetConfig
from .diffusers_network import network_from_diffusers, network_to_diffusers
from .diffusers_scheduler import scheduler_from_diffusers, scheduler_to_diffusers
from .diffusers_weights import weights_from_diffusers, weights_to_diffusers
from .naming import Weights

if TYPE_CHECKING:
    from ..checkpoint import Checkpoint

INDEX, CONFIG, SCHEDULER = "model_index.json", "config.json", "scheduler_config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
VERSION = "0.27.0"  # the oldest release that has all fields that are written


def is_diffusers(folder: Path) -> bool:
    """Whether a folder holds a pipeline or a network of diffusers; that it is a usable one is another question."""
    if (folder / INDEX).is_file() or (folder / "unet" / CONFIG).is_file():
        return True
    try:
        return "_class_name" in read_json(folder, CONFIG)
    except CheckpointError:
        return False


def read_diffusers(folder: Path) -> Stored:
    """Reads a folder. SHA256SUMS is not needed, but checked if there is one.

    Raises:
        CheckpointError: if a file is missing or damaged, or says what our network or samplers cannot do.
    """
    config = read_diffusers_config(folder)
    weights = _find(folder, "unet", WEIGHTS)
    try:
        require_file(folder, weights)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; `difuso convert` turns pickled weights into safetensors") from error
    header = {name: torch.empty(shape, device="meta") for name, shape in read_shapes(folder, weights).items()}
    _our_weights(config, header)  # before it takes memory for the weights
    if (folder / SUMS).is_file():
        files = [weights, _find(folder, "unet", CONFIG), _find(folder, "scheduler", SCHEDULER)]
        sha256 = checked_sums(folder, files)[weights]
    else:
        sha256 = file_sha256(folder / weights)
    return Stored(config, _our_weights(config, read_safetensors(folder, weights)), weights, sha256)


def read_diffusers_config(folder: Path) -> ModelConfig:
    """The config of a folder, without its weights; `weights_from_diffusers` takes those, wherever they come from.

    Raises:
        CheckpointError: as `read_diffusers`.
    """
    if (folder / INDEX).is_file():
        _check_index(read_json(folder, INDEX))
    network = read_json(folder, _find(folder, "unet", CONFIG))
    scheduler = read_json(folder, _find(folder, "scheduler", SCHEDULER))
    check_numbers(CONFIG, network, DIFFUSERS_NETWORK)
    check_numbers(SCHEDULER, scheduler, DIFFUSERS_SCHEDULER)
    try:
        return config_from_json(_translate(network, scheduler))
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        raise CheckpointError(f"{CONFIG} or {SCHEDULER} cannot be used: {error}") from error


def write_diffusers(folder: Path, checkpoint: Checkpoint) -> None:
    """Writes a folder that diffusers loads as a pipeline; replaces an older one only when the new one is complete.

    Raises:
        CheckpointError: if diffusers has no such network or scheduler; the message names what stands in the way.
    """
    config = checkpoint.config
    if not isinstance(config.network, UNetConfig):
        raise CheckpointError(f"diffusers has no equivalent of a {type(checkpoint.network).__name__}")
    network = {**network_to_diffusers(config.network), "sample_size": config.image_size}
    scheduler = scheduler_to_diffusers(config)
    state = weights_to_diffusers(config.network, checkpoint.network.state_dict())
    kind = scheduler["_class_name"]
    index = {
        "_class_name": kind.replace("Scheduler", "Pipeline"),
        "scheduler": ["diffusers", kind],
        "unet": ["diffusers", network["_class_name"]],
    }
    with new_folder(Path(folder)) as fresh:
        for name, content in {INDEX: index, f"unet/{CONFIG}": network, f"scheduler/{SCHEDULER}": scheduler}.items():
            (fresh / name).parent.mkdir(exist_ok=True)
            text = json.dumps({**content, "_diffusers_version": VERSION}, indent=2, sort_keys=True)
            (fresh / name).write_text(text + "\n", encoding="utf-8")
        weights = {name: tensor.cpu().contiguous() for name, tensor in state.items()}
        save_file(weights, fresh / "unet" / WEIGHTS, metadata={"format": "pt"})


def _our_weights(config: ModelConfig, weights: Weights) -> dict[str, Tensor]:
    assert isinstance(config.network, UNetConfig)
    try:
        return weights_from_diffusers(config.network, weights)
    except (ValueError, TypeError, LookupError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(f"{CONFIG} asks for a network that cannot be built: {error}") from error


def _find(folder: Path, part: str, name: str) -> str:
    """Path of a part's file in either layout."""
    return f"{part}/{name}" if (folder / part).is_dir() else name


def _check_index(index: Mapping[str, Any]) -> None:
    """A pipeline with other parts, such as the decoder of a latent model, makes no images from these two alone."""
    parts = {name for name, value in index.items() if isinstance(value, list) and value[0] is not None}
    if others := parts - {"unet", "scheduler"}:
        raise CheckpointError(f"{INDEX} cannot be used: its pipeline has a {min(others)} besides unet and scheduler")


def _translate(network: Mapping[str, Any], scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """The content of our config.json."""
    ours = network_from_diffusers(network)
    fields = scheduler_from_diffusers(scheduler)
    learned = ours["out_channels"] == 2 * ours["in_channels"]
    if learned and fields["variance"] != "learned_range":
        raise CheckpointError(
            f"{SCHEDULER} cannot be used: for a network that learned its variance, variance_type must be learned_range"
        )
    size = network.get("sample_size")
    if isinstance(size, list) and size == size[:1] * 2:
        size = size[0]
    if not isinstance(size, int):
        raise CheckpointError(f"{CONFIG} cannot be used: sample_size is {size!r}; known are only square images")
    classes = None if ours["num_classes"] is None else [str(i) for i in range(ours["num_classes"])]
    return {
        "format": FORMAT,
        "network": {"type": "unet", **ours},
        "image_size": size,
        "channels": ours["in_channels"],
        "classes": classes,
        **fields,
    }
