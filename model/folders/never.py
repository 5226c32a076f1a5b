"""Which choices a model has never seen together: a declaration of its config, for people and for warnings."""

from collections.abc import Mapping
from typing import Any, TypeAlias

from ..conditions import Choice, Conditions, Example, Names, Value, listed, type_of

MAX_NEVER = 4096  # values of all entries together

Never: TypeAlias = tuple[Mapping[str, Names], ...]
"""Entries of two conditions or more, each with values: none of them was ever seen with any of the others'."""


def read_never(content: Any, conditions: Conditions, examples: Mapping[str, tuple[Example, ...]]) -> Never:
    """Reads a list of tables, in which a condition has a value or a list of values.

    Raises ValueError, which names the entry, if one names fewer than two conditions, names what is no choice or no
    value of it, or contradicts the model's examples.
    """
    if not isinstance(content, list | tuple) or not all(isinstance(entry, Mapping) for entry in content):
        raise ValueError('never must be a list of tables, such as {"hair": "bald", "hair_colour": ["red", "black"]}')
    never = tuple(_entry(f"never[{number}]", entry, conditions) for number, entry in enumerate(content))
    if (count := sum(len(values) for entry in never for values in entry.values())) > MAX_NEVER:
        raise ValueError(f"never must have at most {MAX_NEVER} values in all, not {count}")
    for row in zip(*examples.values(), strict=True):
        for values in combinations_in(never, dict(zip(examples, row, strict=True))):
            raise ValueError(f"never and examples contradict each other: {named(values)} is among the examples")
    return never


def _entry(place: str, content: Mapping[str, Any], conditions: Conditions) -> dict[str, Names]:
    if len(content) < 2:
        raise ValueError(f"{place} must name two conditions or more")
    entry = {}
    for name, values in content.items():
        condition = conditions.get(name)
        if condition is None:
            raise ValueError(f"{place}.{name[:32]} is no condition: known are {listed([*conditions]) or 'none'}")
        if not isinstance(condition, Choice):
            raise ValueError(f"{place}.{name} must be left out: it is a {type_of(condition)}, and no choice")
        try:
            read = map(condition.read, values if isinstance(values, list | tuple) else [values])
            entry[name] = tuple(dict.fromkeys(map(str, read)))
        except ValueError as error:
            raise ValueError(f"{place}.{name}: each value {error}") from error
        if not entry[name]:
            raise ValueError(f"{place}.{name} must have a value")
    return entry


def combinations_in(never: Never, values: Mapping[str, Value]) -> list[dict[str, Value]]:
    """Returns those of an image's values that were never seen together, a table for each entry that has them."""
    found = [entry for entry in never if all(values.get(name) in its for name, its in entry.items())]
    return [{name: values[name] for name in entry} for entry in found]


def named(values: Mapping[str, Value]) -> str:
    """Returns a combination for messages: "hair afro with hair_colour red"."""
    return " with ".join(f"{name} {value}" for name, value in values.items())
