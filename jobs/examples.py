"""Conditions that a request leaves out are filled in from the model's examples, which are those of training images."""

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache, partial

from difuso.model.conditions import Choice, Value
from difuso.model.folders.config import ModelConfig

from .conditions import check_size
from .params import SamplingParams


def fill_in_conditions(params: SamplingParams, config: ModelConfig) -> SamplingParams:
    """Fills in the conditions that a request leaves out, for each image by itself.

    Nothing is filled in for a model without examples. The seed of an image chooses an example, so that the same seed
    gets the same values. A value that in no example comes with one of the choices that the image has, such as a colour
    of hair with a hat, is taken from another example, which agrees with them. So where the values of a choice take
    turns, all else stays that can stay.

    Raises RequestRefused if all values together are too long for a job.
    """
    examples = config.examples
    left_out = [name for name in examples if name not in params.conditions]
    if not left_out:
        return params
    given = _given_choices(params, config)
    beside = cache(partial(_beside, examples))
    agreeing = cache(partial(_agreeing, [examples[name] for name in given], len(examples[left_out[0]])))
    found: dict[str, list[Value]] = {name: [] for name in left_out}
    for index in range(params.n):
        values = tuple(params.conditions_of(index)[name] for name in given)
        lot = _lot(params.seed_of(index))
        for name, column in found.items():
            value = examples[name][lot % len(examples[name])]
            if not all(value in beside(one, each)[name] for one, each in zip(given, values, strict=True)):
                rows = agreeing(values)
                value = examples[name][rows[lot % len(rows)]]
            column.append(value)
    conditions = {**params.conditions, **{name: tuple(column) for name, column in found.items()}}
    check_size(conditions)
    return params.model_copy(update={"conditions": conditions})


def _given_choices(params: SamplingParams, config: ModelConfig) -> list[str]:
    """Returns the names of the choices that a request gives and examples have, those with the most values first."""
    choices = {name: each for name, each in config.conditions.items() if isinstance(each, Choice)}
    names = [name for name in sorted(choices) if name in params.conditions and name in config.examples]
    return sorted(names, key=lambda name: -len(choices[name].values))


def _beside(examples: Mapping[str, Sequence[Value]], name: str, value: Value) -> dict[str, set[Value]]:
    """Returns the values that all conditions have in the examples where one of them has this value, by name."""
    rows = [row for row, each in enumerate(examples[name]) if each == value]
    return {other: {column[row] for row in rows} for other, column in examples.items()}


def _agreeing(columns: Sequence[Sequence[Value]], count: int, values: Sequence[Value]) -> Sequence[int]:
    """Returns which of so many examples agree with choices, as far as any do; the first choices count most."""
    rows: Sequence[int] = range(count)
    for column, value in zip(columns, values, strict=True):
        rows = [row for row in rows if column[row] == value] or rows
    return rows


def _lot(seed: int) -> int:
    """Returns a large number that follows from a seed; those of seeds in a row are not in a row."""
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:8])
