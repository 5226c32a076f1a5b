"""The values of a model's conditions, as a request gives them and as its job holds them."""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from difuso.model.conditions import MAX_CONDITIONS, Condition, Conditions, Value, Vector

from .errors import RequestRefused
from .params import MAX_CONDITION_TEXT, MAX_IMAGES

MAX_GIVEN = MAX_CONDITIONS * MAX_IMAGES

Values: TypeAlias = Mapping[str, tuple[Value, ...]]
"""By the names of conditions one value for all images, or one for each, as jobs hold them."""


def _given(sent: Any) -> dict[str, tuple[Any, ...]]:
    """Reads conditions from NAME:VALUE, from a table, or from a list of both.

    In NAME:VALUE a list of JSON means what it means in a table. An empty text or table names no condition.
    """
    found: dict[str, list[Any]] = {}
    for each in [sent] if isinstance(sent, str | Mapping) else sent:
        if each == "":
            continue
        if isinstance(each, Mapping):
            for name, values in each.items():
                found.setdefault(name, []).extend(values if isinstance(values, tuple) else [values])
            continue
        name, colon, text = str(each).partition(":")
        if not colon:
            raise PydanticCustomError("condition", "Input should be NAME:VALUE, such as age:33")
        found.setdefault(name, []).append(_parsed(text))
    if sum(map(len, found.values())) > MAX_GIVEN:
        raise PydanticCustomError("condition", f"Input should have at most {MAX_GIVEN} values")
    return {name: tuple(values) for name, values in found.items()}


def _parsed(text: str) -> Any:
    """Returns the list of JSON that a text is, or the text itself: a choice may begin with a bracket, too."""
    try:
        return json.loads(text) if text.startswith("[") else text
    except (ValueError, RecursionError):
        return text


_SHORTHAND = {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_GIVEN}

GivenConditions: TypeAlias = Annotated[
    Mapping[str, tuple[Any, ...]], BeforeValidator(_given), WithJsonSchema(_SHORTHAND)
]
"""The conditions of a request by name; a value that is a list stands for one value of each image, or for a vector."""


def read_values(given: GivenConditions | None, conditions: Conditions, *, model: str) -> Values:
    """Returns the values of a request's conditions that are no files.

    Raises RequestRefused if a condition is unknown or missing, or takes no such value, or all are too long for a job.
    """
    found = {}
    for name, values in (given or {}).items():
        if name not in conditions:
            known = f"one of {', '.join(conditions)}" if conditions else f"omitted: {model} has no conditions"
            raise RequestRefused("condition", f"{name[:64]}: Input should be {known}")
        condition = conditions[name]
        if any(isinstance(value, str) and len(value) > MAX_CONDITION_TEXT for value in values):
            raise _too_long("more")
        try:
            found[name] = tuple(condition.read(each) for value in values for each in _of_images(value, condition))
        except ValueError as error:
            raise RequestRefused("condition", f"{name}: Input should be {condition.expected}") from error
        if not 1 <= len(found[name]) <= MAX_IMAGES:
            raise RequestRefused(
                "condition", f"{name}: Input should be one, or one for each of 1 to {MAX_IMAGES} images"
            )
    for name, condition in conditions.items():
        if name not in found and not condition.null and not condition.is_file:
            raise RequestRefused("condition", f"{name}: {model} needs this: {condition.expected}")
    check_size(found)
    return found


def _of_images(value: Any, condition: Condition) -> Sequence[Any]:
    """Returns the values of the images for which one that was sent stands."""
    if not isinstance(value, list):
        return [value]
    one_vector = isinstance(condition, Vector) and all(isinstance(each, int | float) for each in value)
    return [value] if one_vector else value


def check_size(values: Values) -> None:
    """Raises RequestRefused if the values of all conditions are too long for a job."""
    if (size := len(json.dumps(values))) > MAX_CONDITION_TEXT:
        raise _too_long(str(size))


def _too_long(size: str) -> RequestRefused:
    most = f"All values should have at most {MAX_CONDITION_TEXT} characters as JSON"
    return RequestRefused("condition", f"{most}, not {size}: draw fewer images")


def split_files(
    given: GivenConditions | None, conditions: Conditions
) -> tuple[GivenConditions | None, dict[str, str | list[Any]]]:
    """Splits the conditions of a request into values, and what stands for each file: a text, or lists of numbers."""
    rest: dict[str, tuple[Any, ...]] = {}
    files: dict[str, str | list[Any]] = {}
    for name, values in (given or {}).items():
        condition = conditions.get(name)
        if condition is None or not condition.is_file:
            rest[name] = values
        elif len(values) == 1 and isinstance(values[0], str if condition.planes else str | list):
            files[name] = values[0]
        else:
            raise RequestRefused(
                "condition", f"{name}: Input should be one {'image' if condition.planes else 'sequence'} for all"
            )
    return None if given is None else rest, files


def mixed(first: Mapping[str, Value], second: Mapping[str, Value], share: float) -> dict[str, Value]:
    """Returns what lies a share of the way from some values to others of the same conditions.

    Numbers change evenly, and choices one after another.
    """
    turning = [name for name, value in first.items() if isinstance(value, str) and value != second[name]]
    turned = turning[: round(share * len(turning))]
    return {
        name: second[name] if name in turned else _towards(value, second[name], share) for name, value in first.items()
    }


def _towards(one: Value, other: Value, share: float) -> Value:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return tuple(_evenly(each, its, share) for each, its in zip(one, other, strict=True))
    return _evenly(one, other, share) if isinstance(one, float) and isinstance(other, float) else one


def _evenly(one: float, other: float, share: float) -> float:
    between = (1 - share) * one + share * other
    return min(max(between, min(one, other)), max(one, other))  # which rounding may have passed
