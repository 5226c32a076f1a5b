"""Recipes: everything that decides a training run, as one frozen value read from TOML."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from model.config import ModelConfig, SamplerDefaults, ScheduleConfig
from model.plan import Prediction
from model.unet import UNetConfig


class RecipeError(ValueError):
    """The recipe cannot be used; the message names the key and what it may be."""


@dataclass(frozen=True)
class Data:
    """Where the images come from.

    Attributes:
        source: `faces` (drawn, CC0) or `folder`.
        path: of the folder.
        count: number of drawn images.
        flip: mirror half of the images.
    """

    source: Literal["faces", "folder"] = "faces"
    path: str = ""
    count: int = 40_000
    flip: bool = False


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        max_steps: optimiser steps.
        warmup_steps: over which the learning rate rises from 0.
        weighting: of the loss, see `training.losses.weights`.
        clip_norm: largest norm of the gradient.
        bf16: run the network in bfloat16 (autocast); weights and optimiser stay float32.
        save_every, sheet_every, log_every: in steps.
    """

    name: str
    network: UNetConfig
    schedule: ScheduleConfig
    defaults: SamplerDefaults
    data: Data = Data()
    image_size: int = 64
    channels: int = 3
    prediction: Prediction = "eps"
    weighting: Literal["uniform", "min_snr"] = "uniform"
    batch_size: int = 32
    max_steps: int = 10_000
    learning_rate: float = 2e-4
    weight_decay: float = 0.0
    warmup_steps: int = 500
    clip_norm: float = 1.0
    ema_decay: float = 0.9995
    bf16: bool = True
    seed: int = 0
    save_every: int = 500
    sheet_every: int = 1000
    log_every: int = 50

    def model_config(self, facts: dict[str, Any]) -> ModelConfig:
        """The config.json of the model that this run makes; `facts` says how far it is."""
        return ModelConfig(
            network=self.network,
            image_size=self.image_size,
            channels=self.channels,
            schedule=self.schedule,
            prediction=self.prediction,
            defaults=self.defaults,
            training={"recipe": dataclasses.asdict(self), **facts},
        )


TABLES = {"network": UNetConfig, "schedule": ScheduleConfig, "defaults": SamplerDefaults, "data": Data}


def load_recipe(name_or_path: str, overrides: Sequence[str] = ()) -> Recipe:
    """Reads a recipe that ships (by name) or a TOML file, and applies overrides like `batch_size=16`, `data.count=100`.

    Raises:
        RecipeError: if there is none, or a key or value is wrong.
    """
    path = Path(name_or_path)
    shipped = files("training").joinpath("recipes", f"{name_or_path}.toml")
    if path.suffix == ".toml" and path.is_file():
        text = path.read_text(encoding="utf-8")
    elif path.name == name_or_path and shipped.is_file():
        text = shipped.read_text(encoding="utf-8")
    else:
        raise RecipeError(f"there is no recipe {name_or_path!r}: give one of {', '.join(recipe_names())}, or a .toml file")
    try:
        content = tomllib.loads(text)
        for override in overrides:
            _override(content, override)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"the recipe is not TOML: {error}") from error
    for table, kind in TABLES.items():
        content[table] = _build(kind, content.get(table, {}), f"{table}.")
    recipe: Recipe = _build(Recipe, content, "")
    return recipe


def recipe_names() -> list[str]:
    """Recipes that ship."""
    entries = files("training").joinpath("recipes").iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))


def _override(content: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise RecipeError(f"--set takes KEY=VALUE, got {override!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, last = key.strip().split(".")
    for table in tables:
        content = content.setdefault(table, {})
    content[last] = value


def _build(kind: type[Any], content: Any, prefix: str) -> Any:
    known = {field.name: field for field in dataclasses.fields(kind)}
    for key in content:
        if key not in known:
            raise RecipeError(f"unknown key {prefix}{key}: known are {', '.join(prefix + name for name in known)}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
    for key, value in values.items():
        example = known[key].default
        expected = type(example) if isinstance(example, bool | int | float | str) else None
        if expected is float and type(value) is int:
            values[key] = float(value)
        elif expected is not None and type(value) is not expected:
            raise RecipeError(f"{prefix}{key} must be a {expected.__name__}, got {value!r}")
    try:
        return kind(**values)
    except TypeError as error:
        raise RecipeError(f"the recipe is incomplete: {error}") from error
