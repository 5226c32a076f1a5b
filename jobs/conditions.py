"""The conditions of a request, as it sends them and as its job holds them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from model.conditions import Condition, Conditions, Value, Vector

from .errors import RequestRefused
from .params import MAX_IMAGES, MAX_TOLD, SamplingParams

GivenConditions: TypeAlias = Mapping[str, tuple[Value, ...]]
"""By the names of conditions one value for all images, or one for each."""

FORM = "Input should be NAME:VALUE, such as age:33"


def named_values(sent: Sequence[str] | None) -> dict[str, list[str]]:
    """Returns the values of a request's conditions by name, as they were sent.

    Raises RequestRefused if one is not NAME:VALUE.
    """
    found: dict[str, list[str]] = {}
    for each in sent or ():
        name, colon, value = each.partition(":")
        if not colon:
            raise RequestRefused("condition", FORM)
        found.setdefault(name, []).append(value)
    return found


def read_values(
    sent: Mapping[str, Sequence[str]], conditions: Conditions, *, model: str
) -> dict[str, tuple[Value, ...]]:
    """Returns the values of a request's conditions, one for all images or one for each, as its job holds them.

    A value that is a list of JSON stands for one value of each image, or for a vector.

    Args:
        sent: the values as `named_values` returns them, of images those that are still to come left out.
        conditions: the conditions of the model.
        model: the name of the model, for messages.

    Raises RequestRefused if a condition is unknown or missing, or takes no such value, or all are too long for a job.
    """
    told = {}
    for name, values in sent.items():
        if name not in conditions:
            known = f"one of {', '.join(conditions)}" if conditions else f"omitted: {model} has no conditions"
            raise RequestRefused("condition", f"{name[:64]}: Input should be {known}")
        condition = conditions[name]
        try:
            told[name] = tuple(condition.read(each) for value in values for each in _parts(value, condition))
        except ValueError as error:
            raise RequestRefused("condition", f"{name}: Input should be {condition.expected}") from error
        if not 1 <= len(told[name]) <= MAX_IMAGES:
            raise RequestRefused(
                "condition", f"{name}: Input should be one, or one for each of 1 to {MAX_IMAGES} images"
            )
    for name, condition in conditions.items():
        if name not in told and not condition.null and not condition.is_image:
            raise RequestRefused("condition", f"{name}: {model} needs this: {condition.expected}")
    check_size(told)
    return told


def check_size(told: Mapping[str, Sequence[Value]]) -> None:
    """Raises RequestRefused if the values of all conditions are too long for a job."""
    if (size := len(json.dumps(told))) > MAX_TOLD:
        raise RequestRefused(
            "condition", f"All values should have at most {MAX_TOLD} characters as JSON, not {size}: draw fewer images"
        )


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


def split_image_conditions(
    sent: Sequence[str] | None, conditions: Conditions
) -> tuple[list[str] | None, dict[str, str]]:
    """Parts the conditions of a request, as it sends them; returns those that are not images, and the values of images.

    Raises RequestRefused if one is not NAME:VALUE, or an image is told twice.
    """
    images = {
        name: values for name, values in named_values(sent).items() if name in conditions and conditions[name].is_image
    }
    for name, values in images.items():
        if len(values) > 1:
            raise RequestRefused("condition", f"{name}: Input should be one image for all")
    rest = [each for each in sent or () if each.partition(":")[0] not in images]
    return rest or None, {name: value for name, (value,) in images.items()}


def uploads_of(params: SamplingParams, conditions: Conditions) -> list[str]:
    """Returns the SHA-256 of the images that the conditions of a job name, each once, in a fixed order."""
    names = sorted(name for name in params.conditions if name in conditions and conditions[name].is_image)
    return list(dict.fromkeys(str(value) for name in names for value in params.conditions[name]))


def _parts(value: str, condition: Condition) -> list[Any]:
    """Returns the values in one that was sent: those of a list of JSON, or the text itself."""
    found = _parsed(value)
    if not isinstance(found, list):
        return [found]
    one_vector = isinstance(condition, Vector) and all(isinstance(each, int | float) for each in found)
    return [found] if one_vector else found


def as_table(sent: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Returns conditions as a JSON body holds them, from their values as `named_values` returns them."""
    return {name: _parsed(values[0]) if len(values) == 1 else [*map(_parsed, values)] for name, values in sent.items()}


def _parsed(value: str) -> Any:
    """Returns the list of JSON that a text is, or the text itself: a choice may begin with a bracket, too."""
    if not value.startswith("["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value
