"""The order of the images can be found again, from any place and by any number of processes."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch

from difuso.training.data.batches import Batches, Draws, Seeds
from difuso.training.data.dataset import Dataset
from difuso.training.objective.objectives import uniform
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.processes import Processes

NUMBERED = Dataset(
    images=np.arange(10, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8),
    labels=np.arange(10) // 2,
    classes=tuple("abcde"),
)
CPU = torch.device("cpu")
NAMELESS = ("data.source=npz", "data.path=none", "network.num_classes=5", "label_drop=0.1")


def recipe(*changes: str) -> Recipe:
    return load_recipe("smoke", changes)


def take(batches: Batches, count: int) -> list[list[int]]:
    """The numbers of the images in the next batches."""
    stream = iter(batches)
    return [next(stream).pixels[:, 0, 0, 0].tolist() for _ in range(count)]


def test_an_epoch_shows_no_image_twice_and_the_next_has_another_order() -> None:
    first, second, third, fourth = (set(batch) for batch in take(Batches(NUMBERED, 5, seed=0), 4))
    assert first | second == third | fourth == set(range(10))
    assert first != third


def test_the_order_goes_on_from_any_position() -> None:
    straight = take(Batches(NUMBERED, 3, seed=1), 11)
    for position in (1, 3, 7):
        batches = Batches(NUMBERED, 3, seed=1)
        batches.position = position
        assert take(batches, 11 - position) == straight[position:]
    assert take(Batches(NUMBERED, 3, seed=2), 11) != straight


def test_an_image_keeps_its_class() -> None:
    batch = next(iter(Batches(NUMBERED, 10, seed=0)))
    assert batch.labels is not None
    assert torch.equal(batch.labels, batch.pixels[:, 0, 0, 0] // 2)


def test_the_shares_of_all_processes_are_the_batch() -> None:
    whole = take(Batches(NUMBERED, 4, seed=0), 6)
    shares = [take(Batches(NUMBERED, 4, seed=0, share=Processes(rank, 2).share(4)), 6) for rank in range(2)]
    assert [first + second for first, second in zip(*shares, strict=True)] == whole


def test_chances_are_those_that_were_asked_for() -> None:
    size = ("batch_size=4000", "image_size=2", "network.channel_mult=[1]")
    drawn = Draws(recipe(*size, "data.flip=true", *NAMELESS), Seeds(0), CPU).next(partial(uniform, total=1000))
    assert abs(float(drawn.symmetries.float().mean()) - 0.5) < 0.03
    assert abs(float(drawn.nameless.float().mean()) - 0.1) < 0.02
    never = Draws(recipe(*size), Seeds(0), CPU).next(partial(uniform, total=1000))
    assert not never.symmetries.any()
    assert not never.nameless.any()


def test_draws_go_on_as_they_were() -> None:
    changes = ("batch_size=3", "data.flip=true", *NAMELESS)
    draws, again = (Draws(recipe(*changes), Seeds(seed), CPU) for seed in (0, 1))
    draws.next(partial(uniform, total=10))
    again.load(draws.state())
    one, other = (each.next(partial(uniform, total=10)) for each in (draws, again))
    assert torch.equal(one.t, other.t)
    assert torch.equal(one.noise, other.noise)
    assert not torch.equal(one.noise, draws.next(partial(uniform, total=10)).noise)
