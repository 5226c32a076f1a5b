"""The conditions of training images: the images themselves made smaller, files of the same names, and values."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations, zip_longest
from pathlib import Path, PurePath
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from difuso.model.conditions import (
    Choice,
    Condition,
    Conditions,
    Example,
    ImageMap,
    Number,
    Value,
    listed,
    sequences_in,
)
from difuso.model.folders.never import MAX_NEVER, Never
from difuso.model.folders.parsing import shown
from difuso.model.network_inputs import Column, column
from difuso.model.shape import Shape

from ..choices import TEACHER
from ..errors import RecipeError
from ..recipe import Recipe
from .image_files import open_maps
from .images import ImageArray, centre_crop
from .pairs import Pairs
from .source_images import Source, SourceImage, open_source
from .tables import with_table

LEAST_EXPECTED = 10  # images: fewer that are missing may be chance
MOST_ENTRIES = 32  # of two conditions: people read no more
MAX_CELLS = 1_000_000  # of a table of two conditions


def open_with_conditions(recipe: Recipe, drawn: Path | None = None) -> Source:
    """Opens a recipe's images with their conditions; one with an unreadable image or map counts as unreadable.

    A teacher's images come from the folder where `Pairs.keep` has `drawn` them; for None it draws them on the CPU.
    Raises RecipeError if there are no images, or nothing gives a condition's values; from the items, if an image and
    its condition have different names.
    """
    data = recipe.data
    if data.source == TEACHER and (drawn is None or drawn.is_dir()):
        return Pairs(recipe, torch.device("cpu")).source(drawn)
    source = open_source(data, recipe.shape)
    if data.table:
        few = data.reserved > 0 and data.split == "test"  # of which a table may name none
        source = with_table(source, Path(data.table), data.classes, needed=not few)
    check_columns(recipe.conditions, source)
    for name, shape in recipe.seen.items():
        path = data.condition_paths.get(name)
        if path is None:
            source = replace(source, items=_made_smaller(source.items, name, shape))
            continue
        there, condition = replace(data, path=path), recipe.all_conditions[name]
        is_map = isinstance(condition, ImageMap)
        files = open_maps(there, shape, count=condition.planes) if is_map else open_source(there, shape)
        source = replace(source, items=_paired(source.items, name, path, files.items))
    return source


def smaller(image: ImageArray, shape: Shape) -> ImageArray:
    """Returns an image of shape (H, W, C) in another shape, made like every image here; see `centre_crop`."""
    full = Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image)
    return np.asarray(centre_crop(full.convert("L" if shape.channels == 1 else "RGB"), shape)).reshape(shape.hwc)


def _made_smaller(items: Iterable[SourceImage], name: str, shape: Shape) -> Iterator[SourceImage]:
    for item in items:
        yield item if item.image is None else item._replace(seen={**item.seen, name: smaller(item.image, shape)})


def _paired(
    images: Iterable[SourceImage], name: str, path: str, conditions: Iterable[SourceImage]
) -> Iterator[SourceImage]:
    for item, condition in zip_longest(images, conditions):
        if item is None or condition is None or _stem(item) != _stem(condition):
            lonely = item or condition
            raise RecipeError(f"{lonely.name} has no partner: data.path and {path} must hold files of the same names")
        if condition.image is None:
            yield item._replace(image=None, reason=item.reason or f"condition {name}: {condition.reason}")
        else:
            yield item._replace(seen={**item.seen, name: condition.image})


def _stem(item: SourceImage) -> PurePath:
    return PurePath(item.name).with_suffix("")


def check_columns(conditions: Conditions, source: Source) -> None:
    """Raises RecipeError if a source has no values for a condition."""
    for name in (*by_value(conditions), *sequences_in(conditions)):
        if source.columns is not None and name not in source.columns:
            known = listed(source.columns) or "none"
            raise RecipeError(f"the images have no column for the condition {name}: their columns are {known}")


def by_value(conditions: Conditions) -> dict[str, Condition]:
    """Returns the conditions that have values, and no files."""
    return {name: condition for name, condition in conditions.items() if not condition.is_file}


def values_of(conditions: Conditions, item: SourceImage) -> dict[str, Value]:
    """Returns the values of an image's conditions by name; RecipeError for a missing or wrong one names the row."""
    reads = {name: condition.read for name, condition in by_value(conditions).items()}
    return _read(conditions, item, reads)


def sequences_of(conditions: Conditions, item: SourceImage) -> list[NDArray[np.float32]]:
    """Returns an image's sequences, each of shape (l, width), l = 0 without one; otherwise like `values_of`."""
    sequences = sequences_in(conditions)
    found = _read(conditions, item, {name: each.array for name, each in sequences.items()})
    return [found.get(name, np.empty((0, each.width), np.float32)) for name, each in sequences.items()]


def _read(conditions: Conditions, item: SourceImage, reads: Mapping[str, Callable[[Any], Any]]) -> dict[str, Any]:
    found = {}
    for name, read in reads.items():
        value = item.values.get(name)
        place = f"{item.place or item.name}, column {name}"
        if value is None:
            if not conditions[name].null:
                raise RecipeError(f"{place} is empty: fill it, or declare the condition with null = true")
            continue
        try:
            found[name] = read(value)
        except ValueError as error:
            raise RecipeError(f"{place} {error}, not {shown(value)}") from error
    return found


# The conditions of the images of a run, or of some of them, by name. Images, maps and sequences are as they are
# stored, which may be in a file that is mapped: uint8 of shape (N, h, w, c), or float32 of shape (N, most, width).
Columns = Mapping[str, Column]


def complete_column(values: NDArray[Any]) -> Column:
    """Returns the column of a condition that every image has."""
    return Column(torch.from_numpy(values), torch.ones(len(values), dtype=torch.bool))


def sequence_columns(
    conditions: Conditions, padded: Iterable[NDArray[np.float32]], lengths: NDArray[np.int64]
) -> dict[str, Column]:
    """Returns the columns of sequences, each padded to shape (N, most, width), with their lengths, shape (N, K)."""
    parts = zip(sequences_in(conditions), padded, lengths.T, strict=True)
    return {name: Column(torch.from_numpy(values), torch.from_numpy(present)) for name, values, present in parts}


def some_of(columns: Columns, rows: NDArray[np.int64] | slice) -> dict[str, Column]:
    """Returns the columns of some of the images."""
    chosen = rows if isinstance(rows, slice) else torch.from_numpy(rows)
    return {name: Column(values[chosen], present[chosen]) for name, (values, present) in columns.items()}


def columns_of(conditions: Conditions, values: Sequence[Mapping[str, Value]]) -> dict[str, Column]:
    """Returns the columns of the conditions that have values, from those that `values_of` returns of each image."""
    return {name: column(one, [each.get(name) for each in values]) for name, one in by_value(conditions).items()}


def save_columns(path: Path, columns: Columns) -> None:
    """Writes columns into one .npz file."""
    parts = {f"{name}.{part}": each for name, one in columns.items() for part, each in one._asdict().items()}
    np.savez(path, **{name: part.numpy() for name, part in parts.items()})


def load_columns(path: Path, conditions: Conditions) -> dict[str, Column]:
    """Reads what `save_columns` wrote."""
    with np.load(path) as arrays:
        parts = {name: torch.from_numpy(array) for name, array in arrays.items()}
    return {name: Column(parts[f"{name}.values"], parts[f"{name}.present"]) for name in by_value(conditions)}


def values_at(conditions: Conditions, columns: Columns, row: int) -> dict[str, Value]:
    """Returns the values of an image's conditions, by name."""
    found: dict[str, Value] = {}
    for name, condition in by_value(conditions).items():
        values, present = columns[name]
        if present[row]:
            value: Any = values[row].tolist()
            if isinstance(condition, Number):  # kept in float32: its shortest decimal number is what was read
                value = min(max(float(str(values[row].numpy())), condition.low), condition.high)
            found[name] = condition.values[value] if isinstance(condition, Choice) else _value(value)
    return found


def examples_of(conditions: Conditions, columns: Columns, count: int) -> dict[str, tuple[Example, ...]]:
    """Returns a column of each choice and number, of `count` images at most that have all; RecipeError for none."""
    kept = {name: each for name, each in conditions.items() if isinstance(each, Choice | Number)}
    rows = np.flatnonzero(np.all([columns[name].present.numpy() for name in kept], axis=0))
    if not len(rows):
        raise RecipeError("examples need images that have all choices and numbers: leave examples out")
    chosen = np.sort(np.random.default_rng(0).permutation(rows)[:count])
    rows_of_values = [values_at(kept, columns, row) for row in chosen]
    return {name: tuple(cast(Example, each[name]) for each in rows_of_values) for name in kept}


def never_together(conditions: Conditions, columns: Columns) -> Never:
    """Returns the values of two choices that no image has together, where that says something about the images.

    It does where at least LEAST_EXPECTED images would have both if the two were independent: by chance none has both
    with a probability of exp(-10), 1 in 22,000. Images that lack one of the two do not count. Values to which the same
    values are missing share an entry. Left out are conditions with more than MAX_CELLS combinations or MOST_ENTRIES
    entries, and those for which MAX_NEVER leaves no room.
    """
    choices = {name: each.values for name, each in conditions.items() if isinstance(each, Choice)}
    never: list[dict[str, tuple[str, ...]]] = []
    for (one, its), (other, others) in combinations(choices.items(), 2):
        if len(its) * len(others) > MAX_CELLS:
            continue
        both = columns[one].present & columns[other].present
        cells = (columns[one].values * len(others) + columns[other].values)[both].numpy()
        counts = np.bincount(cells, minlength=len(its) * len(others)).reshape(len(its), len(others))
        expected = np.outer(counts.sum(1), counts.sum(0)) / max(1, len(cells))
        missing = (counts == 0) & (expected >= LEAST_EXPECTED)
        by_column = [(rows, column) for column, rows in _blocks(missing.T)]
        entries = [
            {one: tuple(its[row] for row in rows), other: tuple(others[column] for column in missed)}
            for rows, missed in min(_blocks(missing), by_column, key=len)
        ]
        room = MAX_NEVER - sum(len(values) for entry in never for values in entry.values())
        if len(entries) <= MOST_ENTRIES and sum(len(values) for entry in entries for values in entry.values()) <= room:
            never += entries
    return tuple(never)


def _blocks(missing: NDArray[np.bool_]) -> list[tuple[list[int], list[int]]]:
    """Returns the rows of a table that are true in the same columns, with these columns, for all rows that have any."""
    blocks: dict[tuple[int, ...], list[int]] = {}
    for row in np.flatnonzero(missing.any(1)).tolist():
        blocks.setdefault(tuple(np.flatnonzero(missing[row]).tolist()), []).append(row)
    return [(rows, [*columns]) for columns, rows in blocks.items()]


def words(values: Mapping[str, Value]) -> list[str]:
    """Returns the choices and numbers of an image as people read them: "hair short", a line for each."""
    return [f"{name} {value}" for name, value in values.items() if not isinstance(value, tuple)]


def _value(value: float | list[float]) -> Value:
    return tuple(value) if isinstance(value, list) else value
