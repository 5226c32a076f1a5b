"""Checkpoints: a folder NAME/ with config.json, model.safetensors (EMA weights) and SHA256SUMS. A model that can be
guided by a classifier has classifier.safetensors as well, and one with a weaker network has weaker.safetensors.

Only safetensors is read, so no file can run code. A config may name a class of another package, which is imported only
if the caller allows it (`model.foreign`). Weights are checked before they are used (hash, keys, shapes, finite
numbers), because a flipped bit or a NaN would otherwise be served as an image. No memory is taken for a network before
its weights are known to fit its config. Folders of diffusers are loaded too.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Literal, cast

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from .errors import CheckpointError
from .folders.config import ModelConfig, Precision
from .folders.config_json import config_from_json, config_to_json, config_to_text
from .folders.files import (
    CLASSIFIER,
    CONFIG,
    WEAKER,
    WEIGHTS,
    model_of,
    read_json,
    read_shapes,
    require_folder,
    version_of,
)
from .folders.folder import FolderContents, checked_sums, read_safetensors
from .folders.new_folder import new_folder
from .formats.diffusers.config import is_diffusers
from .formats.diffusers.pipeline import read_diffusers
from .networks.build import unfilled
from .networks.classifier import Classifier
from .networks.configs import ClassifierConfig, check_networks
from .networks.layers import exact_names
from .networks.network_config import NetworkConfig
from .networks.preconditioned import denoiser_of
from .plans.schedule import NoiseSchedule


@dataclass(frozen=True)
class Checkpoint:
    """A model that is ready to run.

    Attributes:
        name: name of the model, which is that of its folder up to an @.
        config: the content of config.json.
        network: the network in eval mode, float32, on the requested device.
        schedule: the noise schedule of the config.
        version: the version of the model, from all files that decide what it draws; see `model.folders.files`.
        classifier: the classifier that may guide sampling, if the model has one; in the same state as the network.
        weaker: the weaker version of the network, if the model has one; in the same state as the network.

    Examples:
        >>> checkpoint = load_checkpoint("checkpoints/fashion32")
        >>> checkpoint.name, checkpoint.config.image_size, checkpoint.config.classes[7]
        ('fashion32', 32, 'sneaker')
    """

    name: str
    config: ModelConfig
    network: nn.Module
    schedule: NoiseSchedule
    version: str
    classifier: Classifier | None = None
    weaker: nn.Module | None = None

    @cached_property
    def denoiser(self) -> nn.Module:
        """The network as plans call it: from x_t and t to the config's prediction. It shares the network's weights."""
        device = next(self.network.parameters()).device
        return denoiser_of(self.network, self.config.preconditioning, self.schedule).to(device).eval()

    def in_precision(self, precision: Precision | Literal["model"]) -> Checkpoint:
        """Returns the model in another number format, or unchanged in that of the model; it shares the networks."""
        return self if precision == "model" else replace(self, config=replace(self.config, precision=precision))

    @cached_property
    def weaker_version(self) -> Checkpoint | None:
        """The weaker network as a model of its own, if there is one."""
        if self.weaker is None or self.config.weaker is None:
            return None
        config = replace(self.config, network=self.config.weaker, weaker=None, classifier=None)
        return Checkpoint(self.name, config, self.weaker, self.schedule, self.version)


def save_checkpoint(
    folder: Path,
    config: ModelConfig,
    network: nn.Module,
    *,
    classifier: Classifier | None = None,
    weaker: nn.Module | None = None,
    dtype: torch.dtype = torch.float16,
    documents: Mapping[str, Path] = MappingProxyType({}),
) -> None:
    """Writes a folder that the server can load; replaces an older folder only when the new one is complete.

    Args:
        folder: the path to write to; its name is the model's name.
        classifier, weaker: the classifier and the weaker network of the config, if it has them.
        dtype: type of the saved numbers, except the frequencies of Fourier embeddings. float16 halves the file and
            keeps 11 bits; loading gives float32 again.
        documents: files about the model, such as README.md and sheet.png, which are copied into the folder.

    Raises CheckpointError if a tensor is not finite in `dtype`; the older folder stays.
    """
    assert (None if classifier is None else classifier.config) == config.classifier
    assert (weaker is None) == (config.weaker is None)
    modules: dict[str, nn.Module | None] = {WEIGHTS: network, CLASSIFIER: classifier, WEAKER: weaker}
    states = {}
    for file, module in modules.items():
        if module is None:
            continue
        exact = exact_names(module)
        states[file] = {
            name: _stored(tensor.detach(), torch.float32 if name in exact else dtype)
            for name, tensor in module.state_dict().items()
        }
        _check_finite(states[file], file)
    parameters = sum(parameter.numel() for parameter in network.parameters())  # for people
    content = {**config_to_json(config), "parameters": parameters}
    with new_folder(Path(folder)) as fresh:
        for file, state in states.items():
            save_file(state, fresh / file)
        (fresh / CONFIG).write_text(config_to_text(content), encoding="utf-8")
        for name, path in documents.items():
            shutil.copyfile(path, fresh / name)


def load_checkpoint(
    folder: Path | str, *, device: torch.device | str = "cpu", networks: Collection[str] = ()
) -> Checkpoint:
    """Reads and checks a folder, one of ours or one of diffusers.

    Args:
        folder: the path of the folder.
        device: the device of the networks.
        networks: the modules of other packages whose networks may be imported, with all modules below them.

    Raises CheckpointError if the folder cannot be served; the message names the file and what is wrong with it.

    Examples:
        >>> load_checkpoint("checkpoints/faces64").config.defaults.sampler
        'dpmpp'
    """
    folder = Path(folder)
    require_folder(folder)
    stored = read_diffusers(folder) if is_diffusers(folder) else _read(folder, networks)
    modules = _unfilled(stored.config)
    network = modules[WEIGHTS]
    for module, (file, weights) in zip(modules.values(), stored.weights.items(), strict=True):
        _fill(module, weights, file, device)
    return Checkpoint(
        model_of(folder.name),
        stored.config,
        network,
        stored.config.schedule.build(),
        version_of(stored.digests),
        classifier=cast("Classifier | None", modules.get(CLASSIFIER)),
        weaker=modules.get(WEAKER),
    )


def _unfilled(config: ModelConfig) -> dict[str, nn.Module]:
    """Returns the networks of a model, without weights, by the names of their files in our folders."""
    configs: dict[str, NetworkConfig | ClassifierConfig | None] = {
        WEIGHTS: config.network,
        CLASSIFIER: config.classifier,
        WEAKER: config.weaker,
    }
    return {file: unfilled(each) for file, each in configs.items() if each is not None}


def _read(folder: Path, networks: Collection[str]) -> FolderContents:
    checked_sums(folder, (CONFIG,))  # before anything else is believed
    content = read_json(folder, CONFIG)
    config = config_from_json(content)
    check_networks((config.network, config.weaker), networks)
    files = _unfilled(config)
    for file, network in files.items():
        check_shapes(network, read_shapes(folder, file), file)
    sums = checked_sums(folder, files)
    weights = {file: read_safetensors(folder, file) for file in files}
    return FolderContents(config, weights, {file: sums[file] for file in (CONFIG, *files)})


def _stored(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Returns a tensor for a file: on the CPU, in memory of its own, and of a type if its numbers are not whole."""
    return tensor.to("cpu", dtype if tensor.is_floating_point() else tensor.dtype, copy=True).contiguous()


def _fill(network: nn.Module, weights: Mapping[str, Tensor], file: str, device: torch.device | str) -> None:
    """Checks that the weights are finite, gives them to a network and makes it ready to serve on the device."""
    _check_finite(weights, file)
    # Copied, because the tensors may be the mapped file itself, which another program can change.
    state = {
        name: tensor.to(torch.float32 if tensor.is_floating_point() else tensor.dtype, copy=True)
        for name, tensor in weights.items()
    }
    network.load_state_dict(state, assign=True)
    network.requires_grad_(False).eval().to(device)


def check_shapes(network: nn.Module, shapes: Mapping[str, tuple[int, ...]], file: str) -> None:
    """Compares the shapes of a file's tensors, by name, with those of a network; raises CheckpointError."""
    expected = network.state_dict()
    for name in expected.keys() - shapes.keys():
        raise CheckpointError(f"{file} lacks the tensor {name}")
    for name in shapes.keys() - expected.keys():
        raise CheckpointError(f"{file} holds an unknown tensor {name}")
    for name, found in shapes.items():
        if found != (wanted := tuple(expected[name].shape)):
            raise CheckpointError(f"{file}: the tensor {name} has shape {found}, the config asks for {wanted}")


def _check_finite(weights: Mapping[str, Tensor], file: str) -> None:
    for name, tensor in weights.items():
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{file}: the tensor {name} holds NaN or infinity")
