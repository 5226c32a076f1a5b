"""Makes frozen dataclasses from JSON or TOML: every key must be known, and each value fit the type of its field.

The types have bounds. A file may hold any number, and a network built from it could take all memory or an hour. So the
bounds of a config lie above every published model of this family, and below sizes that could do harm.
"""

import dataclasses
from collections.abc import Collection, Mapping
from functools import cache
from types import UnionType
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError

MAX_ENTRIES = 65_536  # of a list

Value = TypeVar("Value")


def parse(kind: type[Value], content: Any, prefix: str = "", *, beside: Collection[str] = ()) -> Value:
    """Makes a dataclass from a table. Types are strict, but lists become tuples, and whole numbers become floats.

    The value of a field that is a dataclass may be an instance of it, or the table that makes one.

    Args:
        prefix: prefix of the keys in messages, such as `network.`.
        beside: the keys of the table that holds this one, in which an unknown key may belong.

    Raises ValueError if a key is unknown or missing, or a value does not fit its field; the message names the key.
    """
    types = _types(kind)  # type: ignore[arg-type]  # types are hashable
    if not isinstance(content, Mapping):
        raise ValueError(f"{prefix.rstrip('.')} must be a table of {', '.join(types)}, got {shown(content)}")
    values = {}
    for key, value in content.items():
        if key not in types and key in beside:
            raise ValueError(f"unknown key {prefix}{key}: {key} belongs beside {prefix.rstrip('.')}, not into it")
        if key not in types:
            known = ", ".join(prefix + name for name in types)
            raise ValueError(f"unknown key {prefix}{key[:64]}: known are {known}")
        adapter, table = types[key]
        if isinstance(value, list) and len(value) > MAX_ENTRIES:
            raise ValueError(f"{prefix}{key} must have at most {MAX_ENTRIES} entries, not {len(value)}")
        if table is not None and value is not None and not dataclasses.is_dataclass(value):
            value = parse(table, value, f"{prefix}{key}.", beside=types)
        try:
            values[key] = adapter.validate_python(tuple(value) if isinstance(value, list) else value, strict=True)
        except ValidationError as error:
            reasons = dict.fromkeys(found["msg"] for found in error.errors())  # one for each type of a union
            raise ValueError(f"{prefix}{key}: {' or '.join(reasons)}, got {shown(value)}") from error
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # any dataclass
        if field.name not in values and field.default is field.default_factory is dataclasses.MISSING:
            raise ValueError(f"{prefix}{field.name} is missing")
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{prefix.rstrip('.')}: {error}" if prefix else str(error)) from error


@cache  # to make them takes a thousand times as long as to use them
def _types(kind: type[Any]) -> Mapping[str, tuple[TypeAdapter[Any], type[Any] | None]]:
    """Returns by the names of a dataclass's fields what validates the value, and the dataclass that it is, if any."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: (TypeAdapter(hint), _table(hint)) for name, hint in hints.items()}


def _table(hint: Any) -> type[Any] | None:
    parts = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return next((part for part in parts if isinstance(part, type) and dataclasses.is_dataclass(part)), None)


def shown(value: Any) -> str:
    """Returns a value for a message, cut to about 60 characters before a long one is written out."""
    if isinstance(value, str | list | tuple):
        value = value[:64]  # of which at most 60 characters are shown, so that what was cut is marked
    text = "a number of many digits" if isinstance(value, int) and abs(value) > 10**30 else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
