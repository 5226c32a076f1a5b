"""What every command begins with: its settings from the environment."""

from __future__ import annotations

from typing import TypeVar

from pydantic_settings import BaseSettings

from .options import checked

Settings = TypeVar("Settings", bound=BaseSettings)


def read_settings(kind: type[Settings]) -> Settings:
    """Reads settings from the environment.

    Raises:
        UserError: if one is wrong.
    """
    return checked(kind, {}, _variable)


def _variable(field: str) -> str:
    return field if field.isupper() else f"DIFUSO_{field.upper()}"
