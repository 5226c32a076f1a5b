"""Reads and writes folders of diffusers: a UNet2DModel with its scheduler.

Both layouts of `diffusers_config` are read, and the one of today's pipelines is written. Only safetensors is read.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from difuso.model.errors import CheckpointError
from difuso.model.folders.config import ModelConfig
from difuso.model.folders.files import SUMS, file_sha256, is_file, read_shapes
from difuso.model.folders.folder import FolderContents, checked_sums, new_folder, read_safetensors
from difuso.model.networks.configs import UNetConfig

from .config import CONFIG, INDEX, SCHEDULER, WEIGHTS, deciding_files, find_weights, read_diffusers_config
from .network import network_to_diffusers
from .scheduler import scheduler_to_diffusers
from .weights import weights_from_diffusers, weights_to_diffusers

VERSION = "0.27.0"  # the oldest release that has all the fields we write


def read_diffusers(folder: Path) -> FolderContents:
    """Reads a folder. SHA256SUMS is optional, and checked if it exists.

    Raises:
        CheckpointError: if a file is missing or damaged, or describes a network or sampler that ours cannot reproduce.
    """
    config = read_diffusers_config(folder)
    assert isinstance(config.network, UNetConfig)
    weights = find_weights(folder)
    header = {name: torch.empty(shape, device="meta") for name, shape in read_shapes(folder, weights).items()}
    weights_from_diffusers(config.network, header)  # checks names and shapes before memory is taken for the weights
    files = deciding_files(folder)
    digests = checked_sums(folder, files) if is_file(folder / SUMS) else {}
    digests = {name: digests.get(name) or file_sha256(folder / name) for name in files}
    state = weights_from_diffusers(config.network, read_safetensors(folder, weights))
    return FolderContents(config, {weights: state}, digests)


def write_diffusers(folder: Path, config: ModelConfig, model: nn.Module) -> None:
    """Writes a folder that diffusers loads as a pipeline; replaces an older folder only when the new one is complete.

    Raises CheckpointError if diffusers has no such network or scheduler; the message names the obstacle.
    """
    if not isinstance(config.network, UNetConfig):
        raise CheckpointError(f"diffusers has no equivalent of a {type(model).__name__}")
    if config.weaker is not None:
        raise CheckpointError("a diffusers folder has no place for the weaker network that guides this model")
    if config.classifier is not None:
        raise CheckpointError("a diffusers folder has no place for the classifier that guides this model")
    if config.preconditioning is not None:
        raise CheckpointError("diffusers has no UNet2DModel that is preconditioned on noise levels")
    network = {**network_to_diffusers(config.network), "sample_size": config.shape.image_size}
    scheduler = scheduler_to_diffusers(config)
    state = weights_to_diffusers(config.network, model.state_dict())
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
