"""Recipes: everything that decides a training run, as one frozen value read from TOML."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from model.config import ModelConfig, SamplerDefaults, ScheduleConfig, config_from_json, config_to_json
from model.errors import CheckpointError
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
        decay_steps: over which it falls to 0 again, at the end of `max_steps`.
        weighting: of the loss, see `training.losses.weights`.
        clip_norm: largest norm of the gradient.
        bf16: run the network in bfloat16 (autocast); weights and optimiser stay float32.
        compile: use torch.compile, which needs a C++ compiler and a minute before the first step.
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
    decay_steps: int = 0
    clip_norm: float = 1.0
    ema_decay: float = 0.9995
    bf16: bool = True
    compile: bool = False
    seed: int = 0
    save_every: int = 500
    sheet_every: int = 1000
    log_every: int = 50

    def check_continues(self, earlier: dict[str, Any]) -> None:
        """Compares with the recipe, as JSON, that a folder's run was started with.

        Raises:
            RecipeError: if one of `FIXED` differs; the others, such as max_steps, may change from start to start.
        """
        mine = json.loads(json.dumps(dataclasses.asdict(self)))
        for key in FIXED:
            if key in earlier and earlier[key] != mine[key]:
                raise RecipeError(f"this folder holds a run with another {key}: give a new folder, or undo the change")

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


# What a run cannot change on its way: its weights, its data or their order would no longer fit.
FIXED = ("network", "schedule", "data", "image_size", "channels", "prediction", "batch_size", "seed")

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
        shipping = ", ".join(recipe_names())
        raise RecipeError(f"there is no recipe {name_or_path!r}: give one of {shipping}, or a .toml file")
    try:
        content = tomllib.loads(text)
        for override in overrides:
            _override(content, override)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"the recipe is not TOML: {error}") from error
    for table, kind in TABLES.items():
        content[table] = _build(kind, content.get(table, {}), f"{table}.")
    recipe: Recipe = _build(Recipe, content, "")
    _check(recipe)
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
        if not isinstance(content, dict):
            raise RecipeError(f"--set {override}: {table} is a value, not a table")
    content[last] = value


def _build(kind: type[Any], content: Any, prefix: str) -> Any:
    if not isinstance(content, dict):
        raise RecipeError(f"{prefix.rstrip('.')} is a table, not a value: set {prefix}KEY instead")
    hints = get_type_hints(kind)
    for key in content:
        if key not in hints:
            raise RecipeError(f"unknown key {prefix}{key}: known are {', '.join(prefix + name for name in hints)}")
    values = {key: _typed(value, hints[key], prefix + key) for key, value in content.items()}
    try:
        return kind(**values)
    except TypeError as error:
        raise RecipeError(f"the recipe is incomplete: {error}") from error


def _typed(value: Any, hint: Any, key: str) -> Any:
    """The value as its field's type; only lists become tuples and whole numbers become floats."""
    if get_origin(hint) is Literal:
        if value not in get_args(hint):
            raise RecipeError(f"{key} must be one of {', '.join(map(str, get_args(hint)))}, got {value!r}")
        return value
    if get_origin(hint) is tuple:
        if not isinstance(value, list):
            raise RecipeError(f"{key} must be a list, got {value!r}")
        return tuple(_typed(item, get_args(hint)[0], key) for item in value)
    if get_origin(hint) is UnionType:  # X | None; TOML has no null, so that None is to leave the key out
        hint = next(kind for kind in get_args(hint) if kind is not NoneType)
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise RecipeError(f"{key} must be {_article(hint.__name__)}, got {value!r}")
    return value


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _check(recipe: Recipe) -> None:
    """What no single field can be blamed for, and numbers that would stop a run with a riddle."""
    for key in ("batch_size", "max_steps", "save_every", "sheet_every", "log_every", "learning_rate", "clip_norm"):
        if getattr(recipe, key) <= 0:
            raise RecipeError(f"{key} must be greater than 0, got {getattr(recipe, key)}")
    if not 0 <= recipe.ema_decay < 1:
        raise RecipeError(f"ema_decay must be at least 0 and less than 1, got {recipe.ema_decay}")
    try:
        config_from_json(config_to_json(recipe.model_config({})))
    except CheckpointError as error:
        raise RecipeError(str(error).replace("config.json", "the recipe")) from error
