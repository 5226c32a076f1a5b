"""Finds the config and the weights of a model folder, of ours or of diffusers, without torch."""

import os
from pathlib import Path

from ..folders.config import ModelConfig
from ..folders.config_json import config_from_json
from ..folders.files import CONFIG, WEIGHTS, read_json, require_file
from .diffusers import config


def holds_config(folder: Path) -> bool:
    """Returns whether a folder is meant to be a model: whether it holds a config, usable or not."""
    places = (CONFIG, config.INDEX, f"unet/{CONFIG}")
    return any(os.path.isfile(folder / place) for place in places)


def read_config(folder: Path) -> ModelConfig:
    """Reads the config of the model in a folder.

    Raises CheckpointError if the config cannot be used; the message names the file and what is wrong with it.
    """
    if config.is_diffusers(folder):
        return config.read_diffusers_config(folder)
    return config_from_json(read_json(folder, CONFIG))


def weights_of(folder: Path) -> str:
    """Returns the path of the weights, relative to the folder; raises CheckpointError if the weights are missing."""
    if config.is_diffusers(folder):
        return config.find_weights(folder)
    require_file(folder, WEIGHTS)
    return WEIGHTS
