"""Fine-tuning: a run that begins from the weights of a checkpoint."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from difuso.model.checkpoint import save_checkpoint
from difuso.model.plans.prediction import Preconditioning
from difuso.training.data.batches import Batches
from difuso.training.data.dataset import Dataset
from difuso.training.data.images import ImageArray
from difuso.training.errors import RecipeError
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGES: ImageArray = torch.zeros(8, 16, 16, 3, dtype=torch.uint8).numpy()
SMALL = ("batch_size=4", "network.channels=16", "network.groups=4", "network.channel_mult=[1, 2]", "precision=float32")


def trainer(*changes: str, initial: bool = True) -> Trainer:
    recipe = load_recipe("smoke", [*SMALL, *changes])
    return Trainer(recipe, Batches(Dataset(IMAGES), recipe.batch_size, seed=0), initial=initial)


@pytest.fixture
def earlier(tmp_path: Path) -> Path:
    first = trainer("seed=1")
    with torch.no_grad():
        for parameter in first.network.parameters():
            parameter.normal_()
    save_checkpoint(tmp_path / "earlier", first.recipe.model_config({}), first.network, dtype=torch.float32)
    return tmp_path / "earlier"


def test_a_run_begins_from_the_weights_of_a_checkpoint(earlier: Path) -> None:
    begun, served = trainer(f"init={earlier}"), trainer("seed=1")
    with pytest.raises(AssertionError):
        torch.testing.assert_close(begun.network.state_dict(), served.network.state_dict())
    again = trainer(f"init={earlier}", "seed=2")
    torch.testing.assert_close(begun.network.state_dict(), again.network.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(begun.ema.network.state_dict(), begun.network.state_dict(), rtol=0, atol=0)


def test_tensors_that_do_not_fit_begin_afresh(earlier: Path) -> None:
    fresh, begun = (trainer("network.pixel_head=4", f"init={earlier}", initial=initial) for initial in (False, True))
    untouched = {name for name, tensor in begun.network.state_dict().items() if name.startswith("pixel_head.")}
    assert untouched
    for name, tensor in begun.network.state_dict().items():
        assert torch.equal(tensor, fresh.network.state_dict()[name]) == (name in untouched), name


def test_a_checkpoint_of_which_nothing_fits_is_refused(earlier: Path) -> None:
    paper = tuple(change for change in SMALL if not change.startswith("network."))
    recipe = load_recipe("smoke", [*paper, "network={type='paper_unet'}", f"init={earlier}"])
    with pytest.raises(RecipeError, match="none of its tensors fits"):
        Trainer(recipe, Batches(Dataset(IMAGES), recipe.batch_size, seed=0))


def test_a_network_that_was_trained_on_noise_levels_is_refused(earlier: Path) -> None:
    """Its weights would fit, but they expect another input."""
    first = trainer("seed=1")
    config = dataclasses.replace(first.recipe.model_config({}), preconditioning=Preconditioning("edm"), prediction="x0")
    save_checkpoint(earlier, config, first.network)
    with pytest.raises(RecipeError, match="was trained on noise levels with a preconditioning"):
        trainer(f"init={earlier}")


def test_a_folder_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"init = .*nothing.*: there is no such folder"):
        trainer(f"init={tmp_path / 'nothing'}")
