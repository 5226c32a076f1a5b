"""TOML as frozen dataclasses: every key known, every value of its field's type, or an error that names the key."""

from __future__ import annotations

import tomllib
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from .errors import RecipeError


def override(content: dict[str, Any], change: str) -> None:
    """Puts `KEY=VALUE` or `TABLE.KEY=VALUE` into what TOML gave; VALUE is TOML too, or else a text.

    Raises:
        RecipeError: if there is no `=`, or TABLE is a value.
    """
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


def build(kind: type[Any], content: Any, prefix: str) -> Any:
    """A dataclass from a table; `prefix` is what goes before its keys in messages.

    Raises:
        RecipeError: if a key is unknown or missing, or a value is of another type.
    """
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
    except ValueError as error:
        raise RecipeError(f"{prefix.rstrip('.')}: {error}") from error


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
    if get_origin(hint) is UnionType:  # TOML has no null, so that None is to leave the key out
        kinds = [kind for kind in get_args(hint) if kind is not NoneType]
        hint = type(value) if type(value) in kinds else kinds[0]
    if hint is float and type(value) is int:
        return float(value)
    if type(value) is not hint:
        raise RecipeError(f"{key} must be {_article(hint.__name__)}, got {value!r}")
    return value


def _article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
