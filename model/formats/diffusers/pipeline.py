"""Reads and writes folders of diffusers: a UNet2DModel with its scheduler.

Both layouts of `config` are read, and the one of today's pipelines is written. Only safetensors is read. Weights get
the names of `UNet`, and back (as of diffusers 0.42).
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from difuso.model.errors import CheckpointError
from difuso.model.folders.config import ModelConfig
from difuso.model.folders.files import SUMS, file_sha256, is_file, read_shapes
from difuso.model.folders.folder import FolderContents, checked_sums, read_safetensors
from difuso.model.folders.new_folder import new_folder
from difuso.model.networks.build import unfilled
from difuso.model.networks.configs import UNetConfig

from ..naming import Weights, tensor_of
from .config import CONFIG, INDEX, SCHEDULER, WEIGHTS, deciding_files, find_weights, read_diffusers_config
from .in_sigma import FLOW
from .network import network_to_diffusers
from .scheduler import scheduler_to_diffusers

VERSION = "0.27.0"  # the oldest release that has all the fields we write

# Layers of our blocks that have other names in diffusers, or are three layers there.
LAYERS = {
    "emb_proj": ("time_emb_proj",),
    "skip": ("conv_shortcut",),
    "norm": ("group_norm",),
    "qkv": ("to_q", "to_k", "to_v"),
    "proj": ("to_out.0",),
}
LEGACY_LAYERS = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}


def read_diffusers(folder: Path) -> FolderContents:
    """Reads a folder; SHA256SUMS is optional. Raises CheckpointError if it is damaged, or ours cannot reproduce it."""
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
    for part in ("weaker network", "classifier", "preconditioning"):
        if getattr(config, part.partition(" ")[0]) is not None:
            raise CheckpointError(f"a diffusers folder has no place for the {part} of this model")
    network = {**network_to_diffusers(config.network), "sample_size": config.shape.image_size}
    scheduler = scheduler_to_diffusers(config)
    state = weights_to_diffusers(config.network, model.state_dict())
    kind = scheduler["_class_name"]
    index = {
        "_class_name": "DDPMPipeline" if kind == FLOW else kind.replace("Scheduler", "Pipeline"),
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


def weights_from_diffusers(config: UNetConfig, weights: Weights) -> dict[str, Tensor]:
    """Translates a UNet2DModel's state dict. Attention may have its old names (query, key, value, proj_attn).

    Raises CheckpointError if a tensor is missing, unknown or of another shape; the message has its name in diffusers.
    """
    rest = {_current(name): tensor for name, tensor in weights.items()}
    places = _places(config)
    state = {}
    for name, like in unfilled(config).state_dict().items():
        parts = []
        for foreign, wanted in _split(places, name, like).items():
            part = tensor_of(rest, foreign)
            if part.shape != wanted.shape:
                shapes = f"shape {tuple(part.shape)}, the config asks for {tuple(wanted.shape)}"
                raise CheckpointError(f"the tensor {foreign} has {shapes}")
            parts.append(rest.pop(foreign))
        state[name] = torch.cat(parts).reshape(like.shape)
    if rest:
        raise CheckpointError(f"the checkpoint holds an unknown tensor {min(rest)}")
    return state


def weights_to_diffusers(config: UNetConfig, state: Weights) -> dict[str, Tensor]:
    """Translates a state dict of `UNet` to today's names; the reverse of `weights_from_diffusers`."""
    places = _places(config)
    return {foreign: part for name, tensor in state.items() for foreign, part in _split(places, name, tensor).items()}


def _places(config: UNetConfig) -> dict[str, str]:
    """Returns the names of modules in UNet2DModel by those in `UNet`. Both count up blocks from the deepest level."""
    places = {
        "time_mlp.0": "time_embedding.linear_1",
        "time_mlp.2": "time_embedding.linear_2",
        "label_emb": "class_embedding",
        "conv_in": "conv_in",
        "mid.0.block": "mid_block.resnets.0",
        "mid.0.attention": "mid_block.attentions.0",
        "mid.1.block": "mid_block.resnets.1",
        "norm_out": "conv_norm_out",
        "conv_out": "conv_out",
    }
    deepest = len(config.widths) - 1
    for i, (level, block) in enumerate(config.down_places()):
        theirs = f"down_blocks.{level}"
        places[f"down.{i}"] = f"{theirs}.downsamplers.0" + (".conv" if config.resample == "conv" else "")
        places[f"down.{i}.block"] = f"{theirs}.resnets.{block}"
        places[f"down.{i}.attention"] = f"{theirs}.attentions.{block}"
    for i, (level, block) in enumerate(config.up_places()):
        theirs = f"up_blocks.{deepest - level}"
        places[f"up.{i}"] = f"{theirs}.upsamplers.0"
        places[f"up.{i}.block"] = f"{theirs}.resnets.{block}"
        places[f"up.{i}.attention"] = f"{theirs}.attentions.{block}"
    return places


def _split(places: Mapping[str, str], name: str, tensor: Tensor) -> dict[str, Tensor]:
    """Returns UNet2DModel's tensors for one of ours, by name: one, or three for qkv. Attention has matrices there."""
    place, _, kind = name.rpartition(".")
    layer = ""
    if place not in places:
        place, _, layer = place.rpartition(".")
    layers = LAYERS.get(layer, (layer,))
    if ".attention." in name and tensor.ndim == 4:
        tensor = tensor.flatten(1)
    names = [".".join(filter(None, (places[place], layer, kind))) for layer in layers]
    return dict(zip(names, tensor.chunk(len(layers)), strict=True))


def _current(name: str) -> str:
    """Returns today's name of a tensor."""
    for old, new in LEGACY_LAYERS.items() if ".attentions." in name else ():
        name = name.replace(old, new)
    return name
