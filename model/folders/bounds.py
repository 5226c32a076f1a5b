"""The bounds of the numbers in a config. They need no torch, because front ends read configs too.

A config may hold any number, and a network built from it could take all memory or an hour. So each number is compared
first with the bound that stands on its field. The bounds lie above every published model of this family, and below
sizes that could do harm.
"""

import dataclasses
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from annotated_types import Ge, Le, MaxLen
from pydantic.fields import FieldInfo

from ..errors import CheckpointError
from ..networks.network_config import MAX_CLASSES

MAX_TEXT = 256  # characters of a name or a choice
MAX_SPACING = 1403  # characters of a list of a hundred timesteps
MAX_PLANS = 64
PLAN_NAME = r"[a-z0-9][a-z0-9._-]{0,63}"


@dataclass(frozen=True)
class Bound:
    """The numbers that a field may hold."""

    # low, high: the smallest and the largest number allowed
    low: float
    high: float
    most: int = 1  # the largest number of entries if the field may hold a list; 1 if it may not
    whole: bool = True  # whether only whole numbers are allowed

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        several = f", or at most {self.most} of them" if self.most > 1 else ""
        return f"{kind} between {self.low:g} and {self.high:g}{several}"

    def holds(self, value: Any) -> bool:
        """Returns whether a value is a number within the bound, or a list of such numbers where one is allowed."""
        if isinstance(value, list | tuple):
            return 1 < self.most >= len(value) and all(self._holds_one(entry) for entry in value)
        return self._holds_one(value)

    def _holds_one(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        return self.low <= value <= self.high  # false for NaN


@cache
def bounds_of(kind: type[Any]) -> Mapping[str, Bound]:
    """Returns the bounds that stand on the fields of a dataclass, by the names of the fields."""
    bounds = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        parts = list(_parts(hint))
        ends = {type(end): end for end in parts}
        if Ge in ends and Le in ends:
            most = ends[MaxLen].max_length if MaxLen in ends else 1
            bounds[name] = Bound(ends[Ge].ge, ends[Le].le, most, whole=float not in parts)
    return bounds


def _parts(hint: Any) -> Iterator[Any]:
    """Yields the types and the constraints of an annotation."""
    yield from hint.metadata if isinstance(hint, FieldInfo) else (hint,)
    for part in get_args(hint):
        yield from _parts(part)


def check_numbers(file: str, fields: Mapping[str, Any], bounds: Mapping[str, Bound], prefix: str = "") -> None:
    """Checks each of these fields that is present and not null against its bound.

    Args:
        file: name of the file, for the message.
        fields: the fields as JSON holds them.
        bounds: the bounds by the names of the fields.
        prefix: prefix of the names in the message, such as `network.`.

    Raises CheckpointError if a value is out of its bound; the message names the field and the bound.
    """
    for name, bound in bounds.items():
        value = fields.get(name)
        if value is not None and not bound.holds(value):
            raise CheckpointError(f"{file}: {prefix}{name} must be {bound}, got {shown(value)}")


def check_fields(kind: type[Any], fields: Mapping[str, Any], prefix: str = "", but: Collection[str] = ()) -> None:
    """Checks the values that our config.json has for the fields of a dataclass: numbers are within their bounds, and
    texts are short. A number in a field without a bound is refused as well, so that no bound can be forgotten.

    Args:
        prefix: prefix of the names in the message, such as `network.`.
        but: the names of fields that are checked elsewhere.

    Raises CheckpointError if a value is out of its bound; the message names the field and the bound.
    """
    bounds = bounds_of(kind)  # type: ignore[arg-type]  # types are hashable
    check_numbers("config.json", fields, bounds, prefix)
    for name in (field.name for field in dataclasses.fields(kind) if field.name not in {*bounds, *but}):
        value, most = fields.get(name), MAX_SPACING if name == "spacing" else MAX_TEXT
        if not (value is None or isinstance(value, bool) or is_short(value, most)):
            raise CheckpointError(f"config.json: {prefix}{name} cannot hold {shown(value)}")


def check_plans(plans: Any) -> None:
    """Checks the names and the number of a model's plans; raises CheckpointError."""
    are_tables = isinstance(plans, Mapping) and all(isinstance(plan, Mapping) for plan in plans.values())
    if not are_tables or len(plans) > MAX_PLANS or not all(re.fullmatch(PLAN_NAME, name) for name in plans):
        raise CheckpointError(
            f"config.json: plans must be a table of at most {MAX_PLANS} tables, with names of up to 64 small letters, "
            "digits and . _ -"
        )


def check_names(field: str, names: Any) -> None:
    """Checks a field with the names of a model's classes, or of a condition's values; raises CheckpointError."""
    if not isinstance(names, list | tuple) or len(names) > MAX_CLASSES or not all(map(is_short, names)):
        raise CheckpointError(
            f"config.json: {field} must be a list of at most {MAX_CLASSES} names of at most {MAX_TEXT} characters"
        )


def is_short(value: Any, most: int = MAX_TEXT) -> bool:
    """Returns whether a value is a text of at most so many characters."""
    return isinstance(value, str) and len(value) <= most


def shown(value: Any) -> str:
    """Returns a value for a message, cut to about 60 characters before a long one is written out."""
    if isinstance(value, str | list | tuple):
        value = value[:16]
    text = "a number of many digits" if isinstance(value, int) and abs(value) > 10**30 else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."
