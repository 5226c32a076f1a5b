"""The eight symmetries of a square."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from difuso.training.data.batches import MIRRORED, SYMMETRIES, Draws, Seeds, turned
from difuso.training.errors import RecipeError
from difuso.training.objective.objectives import uniform
from difuso.training.recipe_reading import load_recipe

IMAGE = torch.arange(2 * 3 * 3.0).reshape(1, 2, 3, 3)


def test_there_are_eight_and_they_form_a_group() -> None:
    eight = turned(IMAGE.expand(SYMMETRIES, -1, -1, -1), torch.arange(SYMMETRIES))
    assert torch.equal(eight[0], IMAGE[0])
    assert torch.equal(eight[MIRRORED], IMAGE[0].flip(-1))
    assert len({tuple(image.flatten().tolist()) for image in eight}) == SYMMETRIES
    for again in range(SYMMETRIES):
        twice = turned(eight, torch.full((SYMMETRIES,), again))
        assert {tuple(image.flatten().tolist()) for image in twice} == {
            tuple(image.flatten().tolist()) for image in eight
        }


def test_channels_stay_together_and_images_without_a_symmetry_stay_as_they_are() -> None:
    pair = torch.cat([IMAGE, IMAGE + 100])
    assert turned(pair, torch.zeros(2, dtype=torch.int64)) is pair
    changed = turned(pair, torch.tensor([0, 3]))
    assert torch.equal(changed[0], pair[0])
    assert torch.equal(changed[1, 1] - changed[1, 0], pair[1, 1] - pair[1, 0])


def test_a_recipe_draws_each_of_them_as_often() -> None:
    recipe = load_recipe("smoke", ["batch_size=8000", "image_size=2", "network.channel_mult=[1]", "data.flip=dihedral"])
    drawn = Draws(recipe, Seeds(0), torch.device("cpu")).next(partial(uniform, total=1000))
    counts = torch.bincount(drawn.symmetries, minlength=SYMMETRIES)
    assert len(counts) == SYMMETRIES
    assert (counts - 1000).abs().max() < 5 * 30  # five standard deviations of a binomial number


def test_only_squares_are_turned() -> None:
    oblong = ("image_size=[8, 16]", "data.source=folder", "data.path=photographs", "data.flip=dihedral")
    with pytest.raises(RecipeError, match="flip dihedral turns squares"):
        load_recipe("smoke", oblong)
