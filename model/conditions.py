"""The conditions of a model, each with a name, which its network sees beside x_t and t. The declarations need no torch.

A network sees them in these arguments, which `model.network_inputs` makes:

    labels   the index of a class, (B,): the names in a model's `classes`
    vector   choices, numbers and vectors, (B, V)
    planes   images and maps, beside x_t, (B, P, H, W); that which an upscaler enlarges is the first of them
    level    the standard deviation of the noise in the image that an upscaler enlarges, (B,)
    sequence, sequence_mask   a sequence of vectors, (B, L, D), and which of them are there, (B, L)

The parts of `vector` and `planes` stand in the alphabetical order of the names, because tables of JSON have no order.
"""

import json
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from .shape import ImageSize, Shape

NAME = r"[a-z][a-z0-9_]{0,31}"
SHA256 = r"[0-9a-f]{64}"
MAX_CONDITIONS = 32
MAX_EXAMPLES = 8192  # of the conditions of training images, see `ModelConfig`
MAX_NUMBER = 1e9  # of the ends of a range
MAX_ENTRY = 1e6  # of a vector
MAX_TEXT = 256  # characters of a name or a choice

Text = Annotated[str, Field(max_length=MAX_TEXT)]
Names = Annotated[tuple[Text, ...], Field(max_length=65_536)]

Value: TypeAlias = str | float | tuple[float, ...]
"""The value of a condition, for one image: a choice's name, a number, a vector's entries, or a file's SHA-256."""


Example: TypeAlias = Text | Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)]
"""The value of a choice or a number, among the examples of a model."""


@dataclass(frozen=True, kw_only=True)
class Condition(ABC):
    """One condition of a model."""

    null: bool = False  # whether it may be left out, because the network was trained without it too

    @property
    @abstractmethod
    def expected(self) -> str:
        """The values that it takes, for messages: "one of none, round"."""

    @property
    def entries(self) -> int:
        """Its number of entries in the vector; the last is 1 where it is absent, and else 0."""
        return 0

    @property
    def planes(self) -> int:
        """Its number of planes."""
        return 0

    @property
    def is_file(self) -> bool:
        """Whether it comes as a file and not as a value."""
        return self.planes > 0

    def read(self, value: Any) -> Value:
        """Returns a value as jobs hold it, for one image. A text may stand for a number, and "0.5,1" for a vector.

        Raises ValueError if the condition does not take the value; the message says which it takes.
        """
        try:
            return self._read(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"must be {self.expected}") from error

    def takes(self, value: Value) -> bool:
        """Returns whether a value that a job holds is one of this condition."""
        if self.is_file:
            return isinstance(value, str) and re.fullmatch(SHA256, value) is not None
        try:
            return self.read(value) == value
        except ValueError:
            return False

    def _read(self, value: Any) -> Value:
        raise TypeError


@dataclass(frozen=True)
class Choice(Condition):
    """One of several values, such as the kind of glasses on a face."""

    values: Names = ()  # their names

    def __post_init__(self) -> None:
        _check_names(self.values, least=1)

    @property
    def expected(self) -> str:
        return f"one of {listed(self.values)}"

    @property
    def entries(self) -> int:
        return len(self.values) + 1

    def _read(self, value: Any) -> Value:
        name = json.dumps(value) if isinstance(value, int) else value  # 3 is the value "3", and True is "true"
        return self.values[self.values.index(name)]


@dataclass(frozen=True)
class Number(Condition):
    """A number in a range, such as an age."""

    # low, high: the ends of the range, which the network sees as -1 and 1
    low: Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)] = 0.0
    high: Annotated[float, Field(ge=-MAX_NUMBER, le=MAX_NUMBER)] = 1.0
    unit: Text = ""  # the unit, for people; empty if there is none

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"high must be greater than low, {self.low:g}")

    def scaled(self, value: Any) -> Any:
        """Returns what the network sees of a value, -1 to 1: a number, an array or a tensor of the value's shape."""
        return 2 * (value - self.low) / (self.high - self.low) - 1

    @property
    def expected(self) -> str:
        return f"a number from {self.low:g} to {self.high:g} {self.unit}".rstrip()

    @property
    def entries(self) -> int:
        return 2

    def _read(self, value: Any) -> Value:
        number = _number(value)
        if not self.low <= number <= self.high:
            raise ValueError
        return number


@dataclass(frozen=True)
class Vector(Condition):
    """A vector of numbers, such as an embedding, which the network sees as it is."""

    size: Annotated[int, Field(ge=1, le=4096)] = 1  # its number of entries

    @property
    def expected(self) -> str:
        return f"a list of {self.size} numbers from -{MAX_ENTRY:g} to {MAX_ENTRY:g}"

    @property
    def entries(self) -> int:
        return self.size + 1

    def _read(self, value: Any) -> Value:
        entries = value.split(",") if isinstance(value, str) else value
        if not isinstance(entries, list | tuple) or len(entries) != self.size:
            raise ValueError
        numbers = tuple(map(_number, entries))
        if not all(abs(number) <= MAX_ENTRY for number in numbers):
            raise ValueError
        return numbers


@dataclass(frozen=True)
class ImageMap(Condition):
    """An image whose pixels are the indices of values, such as a layout; the nearest pixel is taken to resize it.

    The network sees one plane for each value, of ones where the map has it; all are 0 without a map.
    """

    values: Names = ()  # the names of the values, by their index

    def __post_init__(self) -> None:
        _check_names(self.values, least=2)

    @property
    def expected(self) -> str:
        numbered = [f"{index} {name}" for index, name in enumerate(self.values)]
        return f"a grey image whose pixels are the indices of {listed(numbered)}"

    @property
    def planes(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Image(Condition):
    """An image, such as a sketch; it is enlarged bicubically to the size of x_t.

    If it may be left out, the network sees one plane more, of ones where it is absent.
    """

    channels: Annotated[int, Field(ge=1, le=3)] = 3  # 1 for grey images, 3 for RGB
    size: ImageSize = 64  # side of the square image in pixels, or (height, width): uploads are resized to it

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError("channels must be 1 or 3")

    @property
    def shape(self) -> Shape:
        return Shape.of(self.size, self.channels)

    @property
    def expected(self) -> str:
        return f"{'a grey' if self.channels == 1 else 'an RGB'} image of {self.shape.in_pixels} pixels"

    @property
    def planes(self) -> int:
        return self.channels + self.null


@dataclass(frozen=True)
class VectorSequence(Condition):
    """A sequence of vectors, such as the embedding of a text, which networks of other packages see as it is."""

    width: Annotated[int, Field(ge=1, le=4096)]  # the numbers in each vector
    most: Annotated[int, Field(ge=1, le=1024)]  # the largest number of vectors

    @property
    def expected(self) -> str:
        return f"1 to {self.most} vectors of {self.width} numbers from -{MAX_ENTRY:g} to {MAX_ENTRY:g}"

    @property
    def is_file(self) -> bool:
        return True

    def array(self, value: Any) -> NDArray[np.float32]:
        """Returns lists, or an array, as float32 of shape (l, width); ValueError says what the condition takes."""
        with suppress(TypeError, ValueError, OverflowError), np.errstate(over="ignore"):
            found = np.array(value, np.float32, order="C") + np.float32(0)  # so that -0 is the 0 that it equals
            fits = found.shape[1:] == (self.width,) and 1 <= len(found) <= self.most
            if fits and (np.abs(found) <= MAX_ENTRY).all():  # which NaN is not
                return found
        raise ValueError(f"must be {self.expected}")


# By the types that config.json and recipes name.
CONDITIONS: dict[str, type[Condition]] = {
    "choice": Choice,
    "number": Number,
    "vector": Vector,
    "map": ImageMap,
    "image": Image,
    "sequence": VectorSequence,
}
Conditions: TypeAlias = Mapping[str, Condition]


def type_of(condition: Condition) -> str:
    """Returns the type that configs and recipes name a condition by."""
    return next(name for name, kind in CONDITIONS.items() if type(condition) is kind)


def vector_size(conditions: Conditions) -> int:
    """Returns the length V of the vector that a network with these conditions sees; 0 for none."""
    return sum(condition.entries for condition in conditions.values())


def plane_count(conditions: Conditions) -> int:
    """Returns the number P of planes that a network with these conditions sees; 0 for none."""
    return sum(condition.planes for condition in conditions.values())


def sequences_in(conditions: Conditions) -> dict[str, VectorSequence]:
    """Returns the sequences among conditions; a model has one at most."""
    return {name: each for name, each in conditions.items() if isinstance(each, VectorSequence)}


def listed(names: Sequence[str], most: int = 20) -> str:
    """Returns names for a message, the first of them if there are many."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _number(value: Any) -> float:
    """Returns a finite number; raises TypeError, ValueError or OverflowError for anything else."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return number


def _check_names(values: tuple[str, ...], least: int) -> None:
    if len(values) < least or len(set(values)) < len(values) or not all(values):
        raise ValueError(f"values must be at least {least} different names")
