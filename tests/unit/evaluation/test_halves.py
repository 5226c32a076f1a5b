"""Settings are chosen on other seeds and other real images than those that are reported."""

from __future__ import annotations

import numpy as np
import pytest

from difuso.evaluation.image_sets import Half, from_array
from difuso.training.data.images import ImageArray


def numbered(count: int) -> ImageArray:
    return np.arange(count, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)


@pytest.mark.parametrize(("count", "size"), [(0, 3), (2, 1), (7, 4), (40, 100)])
def test_two_halves_are_the_whole_and_share_nothing(count: int, size: int) -> None:
    whole = from_array("all", numbered(count))
    numbers = []
    for half in Half:
        own = [int(image[0, 0, 0]) for batch in half.of(whole).batches(size) for image in batch]
        assert len(own) == half.of(whole).count
        numbers += own
    assert sorted(numbers) == list(range(count))


def test_each_half_holds_all_of_a_set_that_is_sorted_by_class() -> None:
    classes = np.repeat(np.arange(5, dtype=np.uint8), 8)[:, None, None, None].repeat(3, axis=3)
    for half in Half:
        assert np.unique(half.of(from_array("all", classes)).load(), return_counts=True)[1].tolist() == [12] * 5
