"""Single settings of a recipe, given on the command line."""

import tomllib
from typing import Any

from .errors import RecipeError


def override(content: dict[str, Any], change: str) -> None:
    """Puts `KEY=VALUE` or `TABLE.KEY=VALUE` into the content of a TOML file; VALUE is TOML too, or else a string.

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
