"""Makes frozen dataclasses from JSON or TOML: every key must be known, and each value fit the type of its field."""

import dataclasses
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

Value = TypeVar("Value")


def parse(kind: type[Value], content: Any, prefix: str = "") -> Value:
    """Makes a dataclass from a table. Types are strict, but lists become tuples, and whole numbers become floats.

    The value of a field that is a dataclass must be an instance of it.

    Args:
        prefix: prefix of the keys in messages, such as `network.`.

    Raises ValueError if a key is unknown or missing, or a value does not fit its field; the message names the key.
    """
    adapters = _adapters(kind)  # type: ignore[arg-type]  # types are hashable
    if not isinstance(content, Mapping):
        raise ValueError(f"{prefix.rstrip('.')} must be a table of {', '.join(adapters)}, got {content!r}")
    values = {}
    for key, value in content.items():
        if key not in adapters:
            raise ValueError(f"unknown key {prefix}{key}: known are {', '.join(prefix + name for name in adapters)}")
        try:
            values[key] = adapters[key].validate_python(tuple(value) if isinstance(value, list) else value, strict=True)
        except ValidationError as error:
            reasons = dict.fromkeys(found["msg"] for found in error.errors())  # one for each type of a union
            raise ValueError(f"{prefix}{key}: {' or '.join(reasons)}, got {value!r}") from error
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # any dataclass
        if field.name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{prefix}{field.name} is missing")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{prefix.rstrip('.')}: {error}" if prefix else str(error)) from error


@cache  # to make them takes a thousand times as long as to use them
def _adapters(kind: type[Any]) -> Mapping[str, TypeAdapter[Any]]:
    """Returns the validators of a dataclass, by the names of its fields."""
    return {name: TypeAdapter(hint) for name, hint in get_type_hints(kind, include_extras=True).items()}
