"""The seed and the class of each image of a request. The number of images may follow from them."""

import secrets
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from difuso.model.conditions import listed

from .errors import RequestRefused

ALL = "all"  # the label that stands for all classes in turn, unless the model has a class of this name
DRAWN_SEEDS = 2**32  # enough that equal seeds are unlikely, and short enough to read out


def draw_seed() -> list[int]:
    """Returns a new seed."""
    return [secrets.randbelow(DRAWN_SEEDS)]


def classes_of(
    labels: Sequence[str] | None, classes: Sequence[str] | None, *, count: int, model: str
) -> tuple[int, ...]:
    """Returns the indices of the classes that the images of a request take in turn; none without labels.

    Raises RequestRefused if the model, whose `count` classes may have names, has no such class.
    """
    given = labels or ()
    if ALL in given and count and ALL not in (classes or ()):
        if len(given) > 1:
            raise RequestRefused("label", f"Input should be {ALL} alone, or classes of {model}")
        return tuple(range(count))
    return tuple(_class_index(label, classes, count=count, model=model) for label in given)


def image_count(
    seeds: Sequence[int] | None,
    labels: Sequence[str] | None,
    *,
    n: int | None,
    turns: int,
    noises: int = 0,
    values: Mapping[str, int] = MappingProxyType({}),
) -> int:
    """Returns the number of images: `n`, or that of several seeds, labels, noises, values of a condition, or classes.

    Seeds and labels are those of a request; None where it has none. The images take `turns` classes in turn, and
    `values` is the number of values of each condition. Raises RequestRefused if the numbers contradict each other.
    """
    numbers = {"seeds": len(seeds or ()), "labels": len(labels or ()), "noises": noises}
    lists = {name: number for name, number in numbers.items() if number > 1}
    for name, number in lists.items():
        first, many = next(iter(lists.items()))
        if number != many:
            raise RequestRefused(name.removesuffix("s"), f"Input should be one, or one for each of the {many} {first}")
    for name, number in lists.items():
        if n not in (None, number):
            raise RequestRefused("n", f"Input should be the number of {name}, {number}, or omitted")
        n = number
    for name, number in values.items():
        if number > 1 and n not in (None, number):
            raise RequestRefused("condition", f"{name}: Input should be one, or one for each of the {n} images")
        n = number if number > 1 else n
    return n or turns or 1


def label_in_turn(turns: Sequence[int], images: Sequence[int]) -> int | tuple[int, ...] | None:
    """Returns the classes of the images of these numbers, where all take `turns`; one where one is enough."""
    if len(turns) < 2:
        return turns[0] if turns else None
    return one_or_several([turns[image % len(turns)] for image in images])


def one_or_several(values: Sequence[int]) -> int | tuple[int, ...]:
    return values[0] if len(values) == 1 else tuple(values)


def _class_index(label: str, classes: Sequence[str] | None, *, count: int, model: str) -> int:
    if not count:
        raise RequestRefused("label", f"Input should be omitted: {model} has no classes")
    if classes is not None and label in classes:
        return classes.index(label)
    if label.isascii() and label.isdigit() and int(label) < count:
        return int(label)
    names = f": {listed(classes)}" if classes else ""
    raise RequestRefused("label", f"Input should be a class of {model}, by name or index 0 to {count - 1}{names}")
