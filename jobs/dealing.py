"""What the images of a request are told that it leaves open: each is dealt what an image of the training was told."""

import hashlib
from collections.abc import Mapping, Sequence

from model.conditions import Choice, Told
from model.folders.config import ModelConfig

from .params import SamplingParams
from .told import check_size

Examples = Mapping[str, Sequence[Told]]  # columns of equal length, by the names of conditions


def dealt(params: SamplingParams, config: ModelConfig) -> dict[str, tuple[Told, ...]]:
    """Returns values for the conditions that a request leaves out, one for each image.

    There are none for a model without examples. The seed of an image chooses one of them, so that the same seed is
    dealt the same. A value that in no example comes with one of the choices that the image is told, such as a colour of
    hair with a hat, is taken from another example, which agrees with them. So where the values of a choice are told in
    turn, all else stays that can stay.

    Raises RequestRefused if all values together are too long for a job.
    """
    examples = config.examples
    left_out = [name for name in examples if name not in params.conditions]
    if not left_out:
        return {}
    choices = {name: each for name, each in config.conditions.items() if isinstance(each, Choice) and name in examples}
    told = sorted(set(choices) & set(params.conditions), key=lambda name: (-len(choices[name].values), name))
    pairs = {(one, other): set(zip(examples[one], examples[other], strict=True)) for one in told for other in left_out}
    agreeing: dict[tuple[Told, ...], list[int]] = {}
    found: dict[str, list[Told]] = {name: [] for name in left_out}
    for index in range(params.n):
        values = tuple(params.told_of(index)[name] for name in told)
        if values not in agreeing:
            agreeing[values] = _agreeing(examples, dict(zip(told, values, strict=True)))
        lot, rows = _lot(params.seed_of(index)), agreeing[values]
        own, other = lot % len(examples[left_out[0]]), rows[lot % len(rows)]
        for name, column in found.items():
            value = examples[name][own]
            fits = all((each, value) in pairs[one, name] for one, each in zip(told, values, strict=True))
            column.append(value if fits else examples[name][other])
    lots = {name: tuple(column) for name, column in found.items()}
    check_size({**params.conditions, **lots})
    return lots


def _agreeing(examples: Examples, told: Mapping[str, Told]) -> list[int]:
    """Returns the rows of the examples that agree with choices, as far as any do; the first choices count most."""
    rows = list(range(len(next(iter(examples.values())))))
    for name, value in told.items():
        rows = [row for row in rows if examples[name][row] == value] or rows
    return rows


def _lot(seed: int) -> int:
    """Returns a large number that follows from a seed; those of seeds in a row are not in a row."""
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:8])
