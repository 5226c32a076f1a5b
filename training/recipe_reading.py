"""Reading a recipe: one that ships, or a TOML file, with the changes that a command line names."""

import tomllib
from collections.abc import Collection, Sequence
from dataclasses import fields
from importlib.resources import files
from pathlib import Path
from typing import Any

from difuso.model.conditions import Condition, Conditions, plane_count, vector_size
from difuso.model.errors import CheckpointError
from difuso.model.folders.config import ConditionConfig, SamplerDefaults, ScheduleConfig
from difuso.model.folders.config_json import read_conditions, read_plans
from difuso.model.folders.labels import read_labels
from difuso.model.folders.parsing import parse, shown
from difuso.model.foreign.names import check_allowed, is_foreign
from difuso.model.formats.folders import read_config
from difuso.model.networks.configs import NETWORK_KINDS, ClassifierConfig, ForeignConfig
from difuso.model.networks.network_config import NetworkConfig

from . import recipe_names
from .choices import TEACHER
from .data.face_attributes import ATTRIBUTES
from .errors import RecipeError, checkpoint_errors
from .guided import complete
from .recipe import Data, Recipe
from .recipe_checks import check

# Training an edm2_unet normalises all weights at every step, which difuso does not do: only converted ones are served.
TRAINED = {kind: config for kind, config in NETWORK_KINDS.items() if kind != "edm2_unet"}


def load_recipe(name_or_path: str, overrides: Sequence[str] = (), *, networks: Collection[str] = ()) -> Recipe:
    """Reads a recipe that ships (by name) or a TOML file, and applies overrides like `batch_size=16`, `data.count=100`.

    Args:
        networks: the modules of other packages whose networks and functions may be imported.

    Raises RecipeError if there is none, a key or value is wrong, or it names code that is not allowed.
    """
    try:
        content = tomllib.loads(_text(name_or_path))
        for change in overrides:
            override(content, change)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"the recipe is not TOML: {error}") from error
    try:
        if not isinstance(data := content.setdefault("data", {}), dict):
            raise ValueError(
                f"data must be a table, got {shown(data)}: the images are named by data.source and data.path"
            )
        guided = complete(content)
        if isinstance(content.get("held_out"), dict):
            content["held_out"] = parse(Data, {**content["data"], **content["held_out"]}, "held_out.")
        conditions = _conditions(content)
        content["network"] = _network(content.get("network", {}), conditions, enlarges="condition" in content)
        for table, kind in {"schedule": ScheduleConfig, "defaults": SamplerDefaults, "data": Data}.items():
            content[table] = parse(kind, content.get(table, {}), f"{table}.")
        content["plans"] = read_plans(content.get("plans", {}))
        content["labels"] = read_labels(content.get("labels", {}))
        if conditions:
            content["conditions"] = conditions
        if "condition" in content:
            content["condition"] = parse(ConditionConfig, content["condition"], "condition.")
        recipe = parse(Recipe, content)
        for name in recipe.own_code:
            check_allowed(name, networks)
    except (ValueError, CheckpointError) as error:
        raise RecipeError(str(error)) from error
    check(recipe, guided)
    return recipe


def _text(name_or_path: str) -> str:
    """Returns the TOML of a recipe; raises RecipeError if there is none."""
    path = Path(name_or_path)
    shipped = files("difuso.training").joinpath("recipes", f"{name_or_path}.toml")
    if path.suffix == ".toml" and path.is_file():
        return path.read_text(encoding="utf-8")
    if path.name == name_or_path and shipped.is_file():
        return shipped.read_text(encoding="utf-8")
    shipping = ", ".join(recipe_names())
    raise RecipeError(f"there is no recipe {name_or_path!r}: give one of {shipping}, or a .toml file")


def _conditions(content: dict[str, Any]) -> dict[str, Condition]:
    """Parses the conditions; choices of the drawn faces have the faces' values unless they name some.

    A recipe of what a teacher draws has the teacher's.
    """
    tables, folder = content.get("conditions", {}), str(content["data"].get("path", ""))
    if content["data"].get("source") == TEACHER:
        if tables:
            raise ValueError("the conditions are those of the teacher, data.path: leave them out")
        with checkpoint_errors("data.path", folder):
            return dict(read_config(Path(folder)).conditions)
    if isinstance(tables, dict) and content["data"].get("source", Data.source) == "faces":
        for name, table in tables.items():
            if name not in ATTRIBUTES:
                raise ValueError(f"conditions.{name}: the drawn faces have only {', '.join(ATTRIBUTES)}")
            if isinstance(table, dict):
                table.setdefault("values", list(ATTRIBUTES[name]))
    return read_conditions(tables)


def _network(table: Any, conditions: Conditions, *, enlarges: bool) -> NetworkConfig | ClassifierConfig:
    """Parses a network's config, of the kind that the key `type` names; its inputs follow from the conditions."""
    kind = table.get("type", "unet") if isinstance(table, dict) else "unet"
    own = is_foreign(kind)
    if not own and (not isinstance(kind, str) or kind not in TRAINED):
        raise ValueError(
            f"network.type must be one of {', '.join(TRAINED)}, got {kind!r}; or yours, package.module:Class"
        )
    config = ForeignConfig if own else TRAINED[kind]
    if isinstance(table, dict) and not own:
        table = {key: value for key, value in table.items() if key != "type"}
    if conditions and isinstance(table, dict):
        known, planes = {field.name for field in fields(config)}, plane_count(conditions)
        if "vector_size" not in known:
            raise ValueError(f"network.type {kind} takes no conditions: set it to unet")
        if planes and "condition_channels" not in known:
            raise ValueError(f"network.type {kind} takes no maps and images: set it to unet")
        table = {"vector_size": vector_size(conditions), **table}
        if planes and not enlarges:
            table = {"condition_channels": planes, **table}
    return parse(config, table, "network.")


def override(content: dict[str, Any], change: str) -> None:
    """Puts `KEY=VALUE` or `TABLE.KEY=VALUE` into the content of a TOML file; VALUE is TOML too, or else a string."""
    key, separator, text = change.partition("=")
    if not separator:
        raise RecipeError(f"--set takes KEY=VALUE, got {change!r}")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *tables, last = key.strip().split(".")
    for table in tables:
        content = content.setdefault(table, {})
        if not isinstance(content, dict):
            raise RecipeError(f"--set {change}: {table} is a value, not a table")
    content[last] = value
