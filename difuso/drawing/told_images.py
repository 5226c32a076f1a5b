"""What the real images of a recipe are told, for a model to be told the same."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from evaluation.real_images import FACES
from model.conditions import Told
from training.data.conditions import by_value, some_of, told_at, told_to_all
from training.data.dataset import Dataset, load, scan
from training.recipe import Recipe

LABEL = "label"


class ToldImages(NamedTuple):
    """What each of some images is told: values of the same conditions, and the index of its class, if it has one."""

    conditions: Sequence[Mapping[str, Told]] = ()
    labels: Sequence[int] = ()


def told_by(recipe: Recipe, real: Dataset, rows: NDArray[np.int64]) -> ToldImages:
    """Returns what some of a recipe's real images are told by values."""
    conditions = by_value(recipe.conditions)
    labels = real.columns[LABEL].values.numpy()[rows].tolist() if LABEL in real.columns else []
    return ToldImages([told_at(conditions, real.columns, row) for row in rows] if conditions else [], labels)


def real_images_of(recipe: Recipe, folder: Path, *, faces: int) -> Dataset:
    """Reads real images of a recipe, with what they are told; `held_out_of` returns others.

    Args:
        folder: the folder for what is read.
        faces: the number of faces that are drawn, where the recipe draws them.
    """
    everything = _read(recipe, folder / "train", count=faces)
    return everything if _has_others(recipe) else _part(everything, _tenth(everything, others=True))


def held_out_of(recipe: Recipe, folder: Path, *, faces: int) -> Dataset:
    """Reads the real images that no run of the recipe sees, with what they are told.

    They are the set's test half, or the reserved images, or else a tenth of the set. The arguments are those of
    `real_images_of`.
    """
    if _has_others(recipe):
        return _read(recipe, folder / "test", count=faces, split="test")
    everything = _read(recipe, folder / "train", count=faces)
    return _part(everything, _tenth(everything, others=False))


def _has_others(recipe: Recipe) -> bool:
    return recipe.data.source in (FACES, "idx") or recipe.data.reserved > 0


def _read(recipe: Recipe, folder: Path, *, count: int, split: Literal["train", "test"] = "train") -> Dataset:
    data = replace(recipe.data, split=split)
    if data.source == FACES:
        data = replace(data, count=count)
    plain = replace(recipe, data=data, condition=None, conditions=by_value(recipe.conditions))
    scan(plain, folder)
    found = load(plain, folder)
    labels = {} if found.labels is None else {LABEL: told_to_all(found.labels)}
    return replace(found, columns={**found.columns, **labels})


def _tenth(whole: Dataset, *, others: bool) -> NDArray[np.int64]:
    """Returns the rows of a tenth of a set, or of all others."""
    order = np.random.default_rng(0).permutation(len(whole.images))
    held = len(order) // 10
    return np.sort(order[held:] if others else order[:held])


def _part(whole: Dataset, rows: NDArray[np.int64]) -> Dataset:
    return replace(whole, images=whole.images[rows], columns=some_of(whole.columns, rows))
