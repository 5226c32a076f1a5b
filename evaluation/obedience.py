"""How often an image shows what it was asked to show, by a judge's answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice

import numpy as np
from numpy.typing import NDArray

from model.conditions import Choice, Condition, Conditions, Number
from training.data.told import Columns

from .errors import EvaluationError

NEAR = 0.1  # of a number's range: what is nearer counts as right


@dataclass(frozen=True)
class Share:
    """The share of images that show what was asked for."""

    value: float  # for a choice the mean over its values, so that rare ones count as much as frequent ones
    error: float  # its standard error; k right of n count in it as (k + 1) / (n + 2), so that it is never 0
    images: int  # the number of images

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} ± {100 * self.error:.1f} %"


def rows_told(columns: Columns) -> NDArray[np.int64]:
    """Returns the rows of the images that are told all of some conditions.

    Raises EvaluationError if there are no conditions, or no such images.
    """
    told = [column.told for column in columns.values()]
    rows = np.flatnonzero(np.all(told, axis=0))
    if not told or not len(rows):
        raise EvaluationError("no held-out image is told all conditions: name a recipe whose images are")
    return rows


def choose_rows(conditions: Conditions, columns: Columns, count: int) -> NDArray[np.int64]:
    """Chooses real images whose conditions are asked for: each value of each choice about equally often.

    The other conditions of an image come with it, so no combination is asked for that the real images do not have.

    Args:
        conditions: the conditions that are judged.
        columns: what the real images are told.
        count: the number of rows; an image may be chosen several times.

    Raises EvaluationError if no image is told all conditions.
    """
    told = rows_told({name: columns[name] for name in conditions})
    generator, turns = np.random.default_rng(0), []
    for name, condition in conditions.items():
        values = columns[name].values[told]
        kinds = range(len(condition.values)) if isinstance(condition, Choice) else []
        turns += [rows for value in kinds if len(rows := told[values == value])] or [told]
    return np.array([generator.choice(rows) for rows in islice(cycle(turns), count)], dtype=np.int64)


def share_there(condition: Condition, asked: NDArray[np.float64], found: NDArray[np.float64]) -> Share:
    """Returns how often the asked value of a condition is found.

    Args:
        asked, found: the index of a choice's value or a number for each image, shape (N,).
    """
    if isinstance(condition, Number):
        near = NEAR * (condition.high - condition.low)
        return _mean([np.abs(found - asked) <= near])
    return _mean([found[asked == value] == value for value in np.unique(asked)])


def _mean(parts: Sequence[NDArray[np.bool_]]) -> Share:
    """Returns the mean of the shares of several parts."""
    right, counts = np.array([part.sum() for part in parts]), np.array([len(part) for part in parts])
    likely = (right + 1) / (counts + 2)
    error = np.sqrt((likely * (1 - likely) / counts).sum()) / len(parts)
    return Share(float((right / counts).mean()), float(error), int(counts.sum()))
