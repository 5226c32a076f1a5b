"""The config and the weights of a model folder, whichever layout it has; without torch."""

from __future__ import annotations

from pathlib import Path

from ..config import ModelConfig, config_from_json
from ..files import read_json, require_file
from . import diffusers_config

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def read_config(folder: Path) -> ModelConfig:
    """What the folder says about its model.

    Raises:
        CheckpointError: naming the file and what is wrong with it.
    """
    if diffusers_config.is_diffusers(folder):
        return diffusers_config.read_diffusers_config(folder)
    return config_from_json(read_json(folder, CONFIG))


def weights_of(folder: Path) -> str:
    """The path of its weights, below the folder.

    Raises:
        CheckpointError: if they are missing.
    """
    if diffusers_config.is_diffusers(folder):
        return diffusers_config.find_weights(folder)
    require_file(folder, WEIGHTS)
    return WEIGHTS
