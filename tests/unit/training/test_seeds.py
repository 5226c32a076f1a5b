"""No stage of training repeats what another drew."""

from __future__ import annotations

from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from difuso.model import save_checkpoint
from difuso.model.networks.build import build_network
from difuso.training.data.batches import Batches, Drawn, Draws
from difuso.training.data.dataset import Dataset
from difuso.training.objective.objectives import uniform
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.initial import seeds_of

CPU = torch.device("cpu")
SMALL = ("image_size=8", "batch_size=40", "network.channels=8", "network.channel_mult=[1]", "network.groups=4")
NUMBERED = Dataset(np.arange(400, dtype=np.uint16).reshape(400, 1, 1, 1))


def recipe(*changes: str) -> Recipe:
    return load_recipe("smoke", [*SMALL, "network.head_channels=8", "data.flip=true", *changes])


def save(folder: Path, it: Recipe) -> None:
    """Saves a checkpoint that this recipe is to have made, with random weights."""
    config = it.model_config({})
    save_checkpoint(folder, config, build_network(config.network))


def drawn(it: Recipe, steps: int = 4) -> list[Drawn]:
    draws, timesteps = Draws(it, seeds_of(it), CPU), partial(uniform, total=1000)
    return [draws.next(timesteps) for _ in range(steps)]


def order(it: Recipe, steps: int = 10) -> list[int]:
    batches = Batches(NUMBERED, it.batch_size, seed=seeds_of(it).of("order"))
    return [int(pixel) for batch in islice(batches, steps) for pixel in batch.pixels.flatten()]


def test_two_stages_of_one_recipe_share_no_order_timestep_or_noise(tmp_path: Path) -> None:
    first = recipe()
    save(tmp_path / "first", first)
    second = recipe(f"init={tmp_path / 'first'}")
    assert first.seed == second.seed
    # Two orders of 400 images have one image in the same place by chance, and 4 x 40 timesteps of 1000 0.16.
    assert np.equal(order(first), order(second)).sum() < 10
    for one, other in zip(drawn(first), drawn(second), strict=True):
        assert (one.t == other.t).sum() <= 3
        assert (one.noise == other.noise).float().mean() < 1e-3
        assert not torch.equal(one.symmetries, other.symmetries)


def test_a_run_draws_the_same_again(tmp_path: Path) -> None:
    save(tmp_path / "first", recipe())
    for it in (recipe(), recipe(f"init={tmp_path / 'first'}")):
        assert order(it) == order(it)
        assert all(torch.equal(a.noise, b.noise) for a, b in zip(drawn(it), drawn(it), strict=True))
