"""The training images nearest to samples, and whether these are copies."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from difuso.model.images import from_levels
from difuso.training.data.dataset import Dataset
from difuso.training.data.images import ImageArray
from difuso.training.recipe import Data
from difuso.training.run.copies import find_nearest
from tests.icons import SHAPES, icon


def drawn(first: int, count: int) -> ImageArray:
    return np.stack([np.asarray(icon(SHAPES[seed % 3], seed, size=32)) for seed in range(first, first + count)])


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    """300 icons, of which the first ten are not trained on."""
    return Dataset(drawn(0, 300), held=np.arange(10))


def tensor(images: ImageArray) -> Tensor:
    return from_levels(torch.from_numpy(images))


@pytest.mark.parametrize("flip", [False, True, "dihedral"])
def test_copies_are_found_among_new_images_as_training_showed_them(dataset: Dataset, flip: bool | str) -> None:
    places = [*range(20, 300, 10)]
    copies, new = dataset.images[places], drawn(1000, len(places))
    seen = copies[:, :, ::-1] if flip else copies
    if flip == "dihedral":
        seen = seen.transpose(0, 2, 1, 3)
    noisy = tensor(np.ascontiguousarray(seen)) + 0.05 * torch.randn(len(places), 3, 32, 32, generator=torch.Generator())
    found = find_nearest(torch.cat([noisy, tensor(new)]), dataset, Data(flip=flip), drawn(2000, 100))  # type: ignore[arg-type]
    assert [*found.nearest[: len(places)]] == places
    assert found.copies == pytest.approx(0.5, abs=0.1), "and of the others as many as by chance"


def test_the_share_is_that_of_chance_without_copies(dataset: Dataset) -> None:
    shares = [find_nearest(tensor(drawn(n, 64)), dataset, Data(), drawn(n + 64, 64)).copies for n in (3000, 4000, 5000)]
    assert np.mean(np.array(shares, dtype=float)) < 0.15


def test_what_was_not_trained_on_is_no_neighbour_and_without_held_out_images_there_is_no_share(
    dataset: Dataset,
) -> None:
    found = find_nearest(tensor(dataset.images[:12]), dataset, Data(), None)
    assert found.copies is None
    assert [*found.nearest[10:]] == [10, 11]
    assert min(found.nearest) >= 10


def test_fewer_images_than_are_compared_are_enough() -> None:
    few = Dataset(drawn(0, 5))
    found = find_nearest(tensor(few.images[:2]), few, Data(), drawn(50, 20))
    assert [*found.nearest] == [0, 1]
    assert found.copies == 1
