"""The conditions of the real images of a recipe, for a model that draws with the same ones."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from difuso.evaluation.real_images import FACES
from difuso.model.conditions import Value
from difuso.training.data.conditions import by_value, complete_column, some_of, values_at
from difuso.training.data.dataset import Dataset, load, scan
from difuso.training.recipe import Recipe

LABEL = "label"


class ImageConditions(NamedTuple):
    """The values of the same conditions for each of some images, and the index of its class, if it has one."""

    conditions: Sequence[Mapping[str, Value]] = ()
    labels: Sequence[int] = ()


def conditions_of(recipe: Recipe, real: Dataset, rows: NDArray[np.int64]) -> ImageConditions:
    """Returns the values of conditions, and the classes, of some of a recipe's real images."""
    conditions = by_value(recipe.conditions)
    labels = real.columns[LABEL].values.numpy()[rows].tolist() if LABEL in real.columns else []
    return ImageConditions([values_at(conditions, real.columns, row) for row in rows] if conditions else [], labels)


@contextmanager
def passing_folder(out: Path) -> Iterator[Path]:
    """Yields a new folder below another one, and removes it. Images that are mapped from its files stay.

    The images of a recipe, and the table of their conditions, may change from one command to the next.
    """
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".real-", dir=out) as folder:
        yield Path(folder)


def real_images_of(recipe: Recipe, folder: Path, *, split: Literal["train", "test"], faces: int) -> Dataset:
    """Reads real images of a recipe, with their conditions; nine tenths, or a tenth, of a set without two halves.

    Images of `test` were seen by no run of the recipe if the set has a test half, or reserves images.

    Args:
        folder: the folder for what is read, see `passing_folder`; a second call with it reads a set only once.
        faces: the number of faces that are drawn, where the recipe draws them.
    """
    has_others = recipe.data.source in (FACES, "idx") or recipe.data.reserved > 0
    read: Literal["train", "test"] = split if has_others else "train"
    data = replace(recipe.data, split=read)
    if data.source == FACES:
        data = replace(data, count=faces)
    plain = replace(recipe, data=data, condition=None, conditions=by_value(recipe.conditions))
    scan(plain, folder / read)
    found = load(plain, folder / read)
    labels = {} if found.labels is None else {LABEL: complete_column(found.labels)}
    whole = replace(found, columns={**found.columns, **labels})
    if has_others:
        return whole
    order = np.random.default_rng(0).permutation(len(whole.images))
    held = len(order) // 10
    rows = np.sort(order[:held] if split == "test" else order[held:])
    return replace(whole, images=whole.images[rows], columns=some_of(whole.columns, rows))
