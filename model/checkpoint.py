"""Checkpoints: a folder NAME/ with config.json, model.safetensors (EMA weights) and SHA256SUMS.

Only safetensors is read: no file here can run code. What is loaded was checked first (hash, keys, shapes, finite
numbers), because a flipped bit or a NaN would otherwise be served as a picture.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from .config import ModelConfig, config_from_json, config_to_json
from .errors import CheckpointError
from .schedule import NoiseSchedule

CONFIG, WEIGHTS, SUMS = "config.json", "model.safetensors", "SHA256SUMS"


@dataclass(frozen=True)
class Checkpoint:
    """A model that is ready to run.

    Attributes:
        name: of its folder.
        config: the content of config.json.
        network: in eval mode, float32, on the device that was asked for.
        schedule: built from the config.
        sha256: of model.safetensors, hexadecimal; the identity of the weights.
    """

    name: str
    config: ModelConfig
    network: nn.Module
    schedule: NoiseSchedule
    sha256: str


def save_checkpoint(
    folder: Path, config: ModelConfig, network: nn.Module, *, dtype: torch.dtype = torch.float16
) -> None:
    """Writes a folder that the server can load; replaces an older one only when the new one is complete.

    Args:
        folder: where; its name is the model's name.
        config: of the network.
        network: whose state dict is saved.
        dtype: of the saved numbers. float16 halves the file and keeps 11 bits; loading gives float32 again.

    Raises:
        CheckpointError: if a tensor is not finite in `dtype`; what was there before stays.
    """
    folder = Path(folder)
    weights = {name: tensor.detach().to("cpu", dtype).contiguous() for name, tensor in network.state_dict().items()}
    _check_weights(network, weights, None)
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        save_file(weights, fresh / WEIGHTS)
        content = {**config_to_json(config), "parameters": sum(p.numel() for p in network.parameters())}
        (fresh / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        sums = "".join(f"{file_sha256(fresh / name)}  {name}\n" for name in (CONFIG, WEIGHTS))
        (fresh / SUMS).write_text(sums, encoding="utf-8")
        for name in (CONFIG, WEIGHTS, SUMS):
            _sync(fresh / name)
            (fresh / name).chmod(0o644)  # some of these are written for their owner alone
        fresh.chmod(0o755)
        old = fresh.with_name(fresh.name + ".old")
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def load_checkpoint(folder: Path | str, *, device: torch.device | str = "cpu") -> Checkpoint:
    """Reads and checks a folder.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    folder = Path(folder)
    sums = _read_sums(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(f"{name} is missing{_foreign(folder)}")
        if file_sha256(folder / name) != sums.get(name):
            raise CheckpointError(f"{name} does not match its SHA-256 sum: it was damaged or edited")
    content = _read_json(folder / CONFIG)
    config = config_from_json(content)
    try:
        weights = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{WEIGHTS} is not a safetensors file: {error}") from error
    try:
        network = config.build_network()
    except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(f"{CONFIG} asks for a network that cannot be built: {error}") from error
    _check_weights(network, weights, content.get("parameters"))
    network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
    network.requires_grad_(False).eval().to(device)
    return Checkpoint(folder.name, config, network, config.schedule.build(), sums[WEIGHTS])


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_sums(folder: Path) -> dict[str, str]:
    path = folder / SUMS
    if not path.is_file():
        raise CheckpointError(f"{SUMS} is missing{_foreign(folder)}")
    try:
        lines = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {name.strip().lstrip("*"): digest for digest, name in lines}
    except (ValueError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{SUMS} cannot be read; sha256sum writes it") from error


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path.name} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path.name} is not a JSON object")
    return content


def _check_weights(network: nn.Module, weights: dict[str, torch.Tensor], parameters: int | None) -> None:
    expected = network.state_dict()
    for name in expected.keys() - weights.keys():
        raise CheckpointError(f"{WEIGHTS} lacks the tensor {name}")
    for name in weights.keys() - expected.keys():
        raise CheckpointError(f"{WEIGHTS} holds an unknown tensor {name}")
    for name, tensor in weights.items():
        if tensor.shape != expected[name].shape:
            wanted, found = tuple(expected[name].shape), tuple(tensor.shape)
            raise CheckpointError(f"{WEIGHTS}: the tensor {name} has shape {found}, the config asks for {wanted}")
        if not torch.isfinite(tensor).all():
            raise CheckpointError(f"{WEIGHTS}: the tensor {name} holds NaN or infinity")
    total = sum(p.numel() for p in network.parameters())
    if parameters is not None and parameters != total:
        raise CheckpointError(f"config.json promises {parameters} parameters, the network has {total}")


def _foreign(folder: Path) -> str:
    """A hint where the folder holds weights of a kind that is never loaded."""
    pickles = [p.name for p in sorted(folder.glob("*")) if p.suffix in (".pt", ".pth", ".bin", ".ckpt", ".pkl")]
    return f"; {pickles[0]} is a pickle, which may run code and is never loaded" if pickles else ""


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
