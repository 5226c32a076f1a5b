"""Recipes: everything that decides a training run, as one frozen value read from TOML."""

from __future__ import annotations

import dataclasses
import json
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from model.config import (
    ModelConfig,
    SamplerDefaults,
    ScheduleConfig,
    config_from_json,
    config_to_json,
)
from model.errors import CheckpointError
from model.networks.configs import NETWORKS, AnyNetworkConfig
from model.parsing import parse
from model.plans.plan import Prediction, Variance

from .errors import RecipeError
from .overrides import override

SourceName = Literal["faces", "folder", "zip", "npz", "idx", "huggingface", "webdataset"]
Loss = Literal["simple", "hybrid", "vlb", "consistency"]
Weighting = Literal["uniform", "min_snr", "p2"]
Timesteps = Literal["uniform", "loss_second_moment"]
Precision = Literal["float32", "bf16", "fp16"]


@dataclass(frozen=True)
class Data:
    """The source of the training images.

    Attributes:
        source: a key of `training.sources.SOURCES`; `faces` are drawn (CC0).
        path: the folder, file, pattern of files, or name of the set.
        split: `train` or `test`, for sets that have both.
        count: the number of drawn images.
        classes: the names of the classes, for sets that only number them.
        flip: whether half of the images are mirrored.
    """

    source: SourceName = "faces"
    path: str = ""
    split: str = "train"
    count: int = 40_000
    classes: tuple[str, ...] = ()
    flip: bool = False


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Attributes:
        init: the folder of a checkpoint to begin from (fine-tuning). Tensors of the same name and shape are copied, the
            others start anew. Empty for a network with random weights.
        prediction: what the network predicts: `eps`, `x0` or `v`.
        variance: the variance of the model's ancestral sampling. A learned one needs twice the `out_channels`, and the
            loss `hybrid` or `vlb`.
        loss: `simple`, `hybrid` or `vlb`, see `training.losses.Objective`; `consistency`, see `training.consistency`.
        weighting: the weighting of the simple loss, see `training.losses.weights`.
        gamma: the parameter of the weighting; None is the published one, 5 for min_snr and 1 for p2.
        timesteps: the distribution that timesteps are drawn from, see `training.timesteps`.
        label_drop: the share of images shown without their class, which guidance needs, 0..1.
        batch_size: the number of images in one optimiser step, over all processes and parts.
        accumulate: the number of parts that each process cuts its share of a batch into, to need less memory.
        max_steps: the number of optimiser steps.
        max_minutes: the minutes of training, over all starts of the run; None is no limit.
        warmup_steps: the number of steps in which the learning rate rises from 0.
        decay_steps: the number of steps, at the end of `max_steps`, in which the learning rate falls to 0.
        clip_norm: the largest norm of the gradient; 0 turns clipping off.
        ema_decay: the decay of the averaged weights that are served, at least 0 and below 1.
        more_ema_decays: the decays of further averages.
        precision: the number format of the network's calls (autocast); `auto` is float32 or bf16, whichever is faster
            here. Weights and optimiser are float32 in any case.
        compile: whether to use torch.compile, which needs a C++ compiler and a minute before the first step.
        save_every, sheet_every, log_every: the number of steps between two saves, sheets and lines of the log.
        kid_every: the number of steps between two measurements of the KID to the training images; 0 is never.
    """

    name: str
    network: AnyNetworkConfig
    schedule: ScheduleConfig
    defaults: SamplerDefaults
    data: Data = Data()
    init: str = ""
    image_size: int = 64
    channels: int = 3
    prediction: Prediction = "eps"
    variance: Variance = "fixed_small"
    loss: Loss = "simple"
    weighting: Weighting = "uniform"
    gamma: float | None = None
    timesteps: Timesteps = "uniform"
    label_drop: float = 0.0
    batch_size: int = 32
    accumulate: int = 1
    max_steps: int = 10_000
    max_minutes: float | None = None
    learning_rate: float = 2e-4
    weight_decay: float = 0.0
    warmup_steps: int = 500
    decay_steps: int = 0
    clip_norm: float = 1.0
    ema_decay: float = 0.9995
    more_ema_decays: tuple[float, ...] = ()
    precision: Precision | Literal["auto"] = "auto"
    compile: bool = False
    seed: int = 0
    save_every: int = 500
    sheet_every: int = 1000
    log_every: int = 50
    kid_every: int = 0

    @property
    def num_classes(self) -> int | None:
        """The network's number of classes; None if it has no classes."""
        return self.network.num_classes

    def check_continues(self, earlier: dict[str, Any]) -> None:
        """Compares with the recipe, as JSON, that a folder's run was started with.

        Raises:
            RecipeError: if one of `FIXED` differs; the others, such as max_steps, may change from start to start.
        """
        mine = json.loads(json.dumps(dataclasses.asdict(self)))
        for key in FIXED:
            then, now = earlier.get(key, mine[key]), mine[key]
            # What an older version did not know yet, it cannot have meant otherwise.
            same = {**now, **then} == now if isinstance(now, dict) else then == now
            if not same:
                raise RecipeError(f"this folder holds a run with another {key}: give a new folder, or undo the change")

    def model_config(self, facts: dict[str, Any], classes: Sequence[str] | None = None) -> ModelConfig:
        """The config.json of the model that this run makes.

        Args:
            facts: how far the training is.
            classes: their names; where only the images know them, numbers stand in.
        """
        if classes is None and self.num_classes is not None:
            classes = [str(label) for label in range(self.num_classes)]
        return ModelConfig(
            network=self.network,
            image_size=self.image_size,
            channels=self.channels,
            schedule=self.schedule,
            prediction=self.prediction,
            variance=self.variance,
            classes=None if classes is None else tuple(classes),
            defaults=self.defaults,
            training={"recipe": dataclasses.asdict(self), **facts},
        )


# What a run cannot change on its way: its weights, its data or their order would no longer fit.
FIXED = (
    *("network", "schedule", "data", "image_size", "channels", "prediction", "variance"),
    *("batch_size", "timesteps", "more_ema_decays", "seed"),
)


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
        for change in overrides:
            override(content, change)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"the recipe is not TOML: {error}") from error
    try:
        content["network"] = _network(content.get("network", {}))
        for table, kind in {"schedule": ScheduleConfig, "defaults": SamplerDefaults, "data": Data}.items():
            content[table] = parse(kind, content.get(table, {}), f"{table}.")
        recipe = parse(Recipe, content)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    _check(recipe)
    return recipe


def recipe_names() -> list[str]:
    """Recipes that ship."""
    entries = files("training").joinpath("recipes").iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))


def _network(table: Any) -> AnyNetworkConfig:
    """Parses a network's config, of the kind that the key `type` names."""
    kind = table.get("type", "unet") if isinstance(table, dict) else "unet"
    if kind not in NETWORKS:
        raise ValueError(f"network.type must be one of {', '.join(NETWORKS)}, got {kind!r}")
    if isinstance(table, dict):
        table = {key: value for key, value in table.items() if key != "type"}
    network: AnyNetworkConfig = parse(NETWORKS[kind], table, "network.")
    return network


def _check(recipe: Recipe) -> None:
    """Checks what concerns several fields, and numbers that would stop a run later without saying why."""
    for key in ("batch_size", "accumulate", "max_steps", "save_every", "sheet_every", "log_every", "learning_rate"):
        _require(getattr(recipe, key) > 0, f"{key} must be greater than 0, got {getattr(recipe, key)}")
    for key in ("clip_norm", "kid_every"):
        _require(getattr(recipe, key) >= 0, f"{key} must be at least 0, got {getattr(recipe, key)}")
    _require(recipe.max_minutes is None or recipe.max_minutes > 0, "max_minutes must be greater than 0")
    for key, decay in (("ema_decay", recipe.ema_decay), *(("more_ema_decays", d) for d in recipe.more_ema_decays)):
        _require(0 <= decay < 1, f"{key} must be at least 0 and less than 1, got {decay}")
    decays = (recipe.ema_decay, *recipe.more_ema_decays)
    _require(len(set(decays)) == len(decays), "more_ema_decays must differ from ema_decay and from each other")
    _check_loss(recipe)
    _check_classes(recipe)
    try:
        config_from_json(config_to_json(recipe.model_config({})))
    except CheckpointError as error:
        raise RecipeError(str(error).replace("config.json", "the recipe")) from error
    faces = recipe.data.source == "faces"
    _require(not faces or recipe.channels == 3, "the drawn faces are coloured: channels must be 3")
    _require(faces or recipe.data.path != "", f"say where the images are: data.path, for {recipe.data.source}")


def _check_loss(recipe: Recipe) -> None:
    if recipe.loss == "consistency":
        _check_consistency(recipe)
    learned = recipe.variance.startswith("learned")
    _require(
        not learned or recipe.loss in ("hybrid", "vlb"),
        f"loss {recipe.loss} cannot train variance {recipe.variance}: take loss hybrid, or vlb",
    )
    _require(learned or recipe.loss != "hybrid", "loss hybrid is there for a learned variance: set learned_range")
    weighted = recipe.weighting != "uniform"
    own_weights = recipe.loss in ("vlb", "consistency")
    _require(
        not (weighted and own_weights), f"loss {recipe.loss} has its own weights: it cannot have {recipe.weighting}"
    )
    _require(weighted or recipe.gamma is None, "gamma belongs to weighting min_snr or p2")
    _require(recipe.gamma is None or recipe.gamma > 0, "gamma must be greater than 0")


def _check_consistency(recipe: Recipe) -> None:
    v = recipe.prediction == "v"
    _require(v, f"loss consistency needs prediction v, which is exact without noise, not {recipe.prediction}")
    _require(recipe.timesteps == "uniform", "loss consistency draws timesteps in its own way: leave timesteps out")
    _require(
        getattr(recipe.network, "dropout", 0.0) == 0,
        "loss consistency compares two calls of the network, which must agree: set network.dropout to 0",
    )


def _check_classes(recipe: Recipe) -> None:
    _require(0 <= recipe.label_drop < 1, f"label_drop must be at least 0 and less than 1, got {recipe.label_drop}")
    if recipe.num_classes is None:
        _require(recipe.label_drop == 0, "label_drop needs a network with num_classes")
        return
    _require(recipe.num_classes > 0, "network.num_classes must be greater than 0")
    named = recipe.data.classes
    _require(len(set(named)) == len(named), "data.classes must differ from each other")
    _require(recipe.data.source != "faces", "the drawn faces have no classes: leave network.num_classes out")
    if recipe.network.null_class:
        _require(
            recipe.label_drop > 0, "this network can be asked without a class: set label_drop, say 0.1, to train it"
        )
    else:
        _require(recipe.label_drop == 0, "label_drop needs network.null_class = true")


def _require(fine: bool, message: str) -> None:
    if not fine:
        raise RecipeError(message)
