"""Finds the config, the weights and the version of a model folder, of ours or of diffusers, without torch."""

import os
import re
from functools import lru_cache
from pathlib import Path

from ..errors import CheckpointError
from ..folders.config import ModelConfig
from ..folders.config_json import config_from_json
from ..folders.files import (
    CLASSIFIER,
    CONFIG,
    SUMS,
    VERSION,
    WEAKER,
    WEIGHTS,
    file_sha256,
    is_file,
    read_json,
    read_sums,
    require_file,
    version_of,
)
from .diffusers import config


def holds_config(folder: Path) -> bool:
    """Returns whether a folder is meant to be a model: whether it holds a config, usable or not."""
    places = (CONFIG, config.INDEX, f"unet/{CONFIG}")
    return any(os.path.isfile(folder / place) for place in places)


def read_config(folder: Path) -> ModelConfig:
    """Reads the config of the model in a folder; raises CheckpointError if it cannot be used."""
    if config.is_diffusers(folder):
        return config.read_diffusers_config(folder)
    return config_from_json(read_json(folder, CONFIG))


def weights_of(folder: Path) -> str:
    """Returns the path of the weights, relative to the folder; raises CheckpointError if the weights are missing."""
    if config.is_diffusers(folder):
        return config.find_weights(folder)
    require_file(folder, WEIGHTS)
    return WEIGHTS


def deciding_files(folder: Path, model: ModelConfig) -> list[str]:
    """Returns the paths of the files that decide what the model in a folder draws, whose config has been read.

    Raises CheckpointError if the weights of a folder of diffusers are missing.
    """
    if config.is_diffusers(folder):
        return config.deciding_files(folder)
    guides = {CLASSIFIER: model.classifier, WEAKER: model.weaker}
    return [WEIGHTS, CONFIG, *(file for file, guide in guides.items() if guide is not None)]


def read_version(folder: Path, model: ModelConfig) -> str:
    """Returns the version of the model in a folder, whose config has been read, from SHA256SUMS or else from the files.

    Raises CheckpointError if a file is missing, or SHA256SUMS lacks it.
    """
    files = deciding_files(folder, model)
    if not config.is_diffusers(folder) or is_file(folder / SUMS):
        sums = read_sums(folder)
        return version_of({name: _summed(sums, name) for name in files})
    return version_of({name: _digest(folder / name) for name in files})


def _summed(sums: dict[str, str], name: str) -> str:
    if name not in sums:
        raise CheckpointError(f"{SUMS} does not name {name}")
    if not re.fullmatch(VERSION, sums[name]):
        raise CheckpointError(f"{SUMS} holds an invalid SHA-256 of {name}")
    return sums[name]


def _digest(path: Path) -> str:
    facts = path.stat()
    return _sha256(path, facts.st_size, facts.st_mtime_ns)


@lru_cache(maxsize=256)
def _sha256(path: Path, size: int, modified: int) -> str:
    return file_sha256(path)
