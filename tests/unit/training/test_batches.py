"""The batches of a run: their order, their draws, their symmetries and their timesteps."""

from __future__ import annotations

import math
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from difuso.model import save_checkpoint
from difuso.model.networks.build import build_network
from difuso.training.data.batches import MIRRORED, SYMMETRIES, Batches, Drawn, Draws, Seeds, turned
from difuso.training.data.dataset import Dataset
from difuso.training.objective.objectives import logit_normal, stratified, uniform
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.initial import seeds_of
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


SMALL = ("image_size=8", "batch_size=40", "network.channels=8", "network.channel_mult=[1]", "network.groups=4")
MANY = Dataset(np.arange(400, dtype=np.uint16).reshape(400, 1, 1, 1))


def stage(*changes: str) -> Recipe:
    return load_recipe("smoke", [*SMALL, "network.head_channels=8", "data.flip=true", *changes])


def save(folder: Path, it: Recipe) -> None:
    """Saves a checkpoint that this recipe is to have made, with random weights."""
    config = it.model_config({})
    save_checkpoint(folder, config, build_network(config.network))


def drawn(it: Recipe, steps: int = 4) -> list[Drawn]:
    draws, timesteps = Draws(it, seeds_of(it), CPU), partial(uniform, total=1000)
    return [draws.next(timesteps) for _ in range(steps)]


def order(it: Recipe, steps: int = 10) -> list[int]:
    batches = Batches(MANY, it.batch_size, seed=seeds_of(it).of("order"))
    return [int(pixel) for batch in islice(batches, steps) for pixel in batch.pixels.flatten()]


def test_two_stages_of_one_recipe_share_no_order_timestep_or_noise(tmp_path: Path) -> None:
    first = stage()
    save(tmp_path / "first", first)
    second = stage(f"init={tmp_path / 'first'}")
    assert first.seed == second.seed
    # Two orders of 400 images have one image in the same place by chance, and 4 x 40 timesteps of 1000 0.16.
    assert np.equal(order(first), order(second)).sum() < 10
    for one, other in zip(drawn(first), drawn(second), strict=True):
        assert (one.t == other.t).sum() <= 3
        assert (one.noise == other.noise).float().mean() < 1e-3
        assert not torch.equal(one.symmetries, other.symmetries)


def test_a_run_draws_the_same_again(tmp_path: Path) -> None:
    save(tmp_path / "first", stage())
    for it in (stage(), stage(f"init={tmp_path / 'first'}")):
        assert order(it) == order(it)
        assert all(torch.equal(a.noise, b.noise) for a, b in zip(drawn(it), drawn(it), strict=True))


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


def test_uniform_timesteps_are_all_alike() -> None:
    t = uniform(4000, torch.Generator().manual_seed(0), total=4)
    assert (torch.bincount(t) - 1000).abs().max() < 150


def test_stratified_timesteps_hold_one_of_every_part_and_each_image_s_is_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn = [stratified(8, generator, total=1000) for _ in range(1000)]
    assert all(sorted((t // 125).tolist()) == list(range(8)) for t in drawn)
    of_first = torch.stack([t[0] for t in drawn])
    assert (torch.bincount(of_first // 125, minlength=8) - 125).abs().max() < 5 * 11  # of a binomial's deviation
    assert len(set(torch.cat(drawn).tolist())) > 990


def test_the_logit_of_a_logit_normal_timestep_is_standard_normal() -> None:
    """Shares of the timesteps up to (t + 1) / T = sigmoid(z), against the normal distribution; none is out of range."""
    t = logit_normal(20_000, torch.Generator().manual_seed(0), total=1000)
    assert 0 <= int(t.min()) <= int(t.max()) < 1000
    for z in (-2.0, -1.0, 0.0, 0.5, 2.0):
        share, expected = (t < 1000 / (1 + math.exp(-z))).double().mean(), 0.5 * (1 + math.erf(z / math.sqrt(2)))
        assert float(share) == pytest.approx(expected, abs=5 * math.sqrt(0.25 / 20_000))
