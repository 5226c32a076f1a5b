"""Recipes with a network, a source of images and a loss of another package."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from difuso.evaluation.real_images import real_images
from difuso.model.checkpoint import load_checkpoint
from difuso.model.errors import ForeignError
from difuso.model.shape import Shape
from difuso.training.data.dataset import first_images
from difuso.training.data.source_images import open_source
from difuso.training.errors import RecipeError
from difuso.training.objective.objectives import objective_of
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.run import train
from tests.strangers import PACKAGE, on_the_path, write_package

pytestmark = pytest.mark.usefixtures("one_thread")

RECIPE = f"""
name = "own"
image_size = 8
loss = "{PACKAGE}.training:absolute"
prediction = "x0"
label_drop = 0.1
batch_size = 8
max_steps = 6
warmup_steps = 0
ema_decay = 0.5
save_every = 100
sheet_every = 100
precision = "float32"

[network]
type = "{PACKAGE}.nets:Conditional"
args = {{width = 8, classes = 3, vector = 2}}
num_classes = 3
size_multiple = 2

[conditions.bright]
type = "number"

[data]
source = "{PACKAGE}.training:greys"
path = "anything"
count = 40

[schedule]
num_train_timesteps = 100

[defaults]
sampler = "ddim"
steps = 2
"""


@pytest.fixture(scope="module", autouse=True)
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with on_the_path(write_package(tmp_path_factory.mktemp("lab"))):
        yield


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """Reads the recipe with changes."""
    path = tmp_path / "own.toml"
    path.write_text(RECIPE)

    def read(*changes: str, networks: Sequence[str] = (PACKAGE,)) -> Recipe:
        return load_recipe(str(path), changes, networks=networks)

    return read


def test_a_recipe_of_own_code_trains_a_model_that_can_be_served(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """Its averaged network has the buffers of the newest, and a resumed run ends with the same numbers."""
    assert train(recipe(), tmp_path / "whole") == 6
    assert train(recipe("max_steps=3"), tmp_path / "parts") == 3
    assert train(recipe(), tmp_path / "parts") == 6
    whole, parts = (load_checkpoint(tmp_path / run / "model", networks=[PACKAGE]) for run in ("whole", "parts"))
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, parts.network.state_dict()[name]), name
    assert int(whole.network.norm.num_batches_tracked) == 6  # type: ignore[union-attr, arg-type]
    assert whole.config.input_names == ("labels", "vector")
    assert (
        json.loads((tmp_path / "whole" / "recipe.json").read_text())["network"]["type"] == f"{PACKAGE}.nets:Conditional"
    )


@pytest.mark.slow
def test_a_run_may_begin_from_its_own_model(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    assert train(recipe("max_steps=2"), tmp_path / "first") == 2
    assert train(recipe("max_steps=2", f"init={tmp_path}/first/model", "seed=1"), tmp_path / "second") == 2


def test_a_source_yields_images_and_their_conditions(recipe: Callable[..., Recipe]) -> None:
    images = first_images(recipe())
    assert np.array_equal(images.images[:, 0, 0, 0], 16 * np.arange(8))
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1, 2, 0, 1, 2, 0, 1]
    assert np.allclose(images.columns["bright"].values, np.arange(8) / 15)
    bare = recipe(f"data.source={PACKAGE}.training:bare")
    assert [item.image.max() for item in open_source(bare.data, bare.shape).items] == list(range(16))  # type: ignore[union-attr]


def test_the_loss_is_that_of_the_function(recipe: Callable[..., Recipe]) -> None:
    chosen = recipe()
    objective = objective_of(chosen, chosen.schedule.build())
    x0, noise = torch.full((2, 3, 8, 8), 0.5), torch.zeros(2, 3, 8, 8)
    losses = objective(lambda x, t: torch.zeros_like(x), x0, torch.tensor([0, 99]), noise)
    assert torch.allclose(losses.loss, torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize(
    ("change", "error", "reason"),
    [
        (
            "data.source=P.training:bad",
            RecipeError,
            "training:bad, image 0 must be an array of uint8 and shape (8, 8, 3)",
        ),
        ("data.source=P.training:named", RecipeError, "image 0 has the label 'cat': it must be a whole number, from 0"),
        ("data.source=P.training:breaks", ForeignError, "training:breaks cannot yield images: its code raised OSError"),
        ("data.source=P.nowhere:images", ForeignError, "Python finds no module P.nowhere"),
    ],
)
def test_a_source_that_fails_is_named(
    recipe: Callable[..., Recipe], change: str, error: type[Exception], reason: str
) -> None:
    with pytest.raises(error) as raised:
        first_images(recipe(change.replace("P", PACKAGE)))
    assert reason.replace("P.", f"{PACKAGE}.") in str(raised.value)


def test_a_loss_that_is_not_one_for_each_image_is_named(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    with pytest.raises(ForeignError, match=r"training:one must return a tensor of 8 floats, one for each image"):
        train(recipe(f"loss={PACKAGE}.training:one"), tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("data.source=elsewhere:images", "elsewhere:images is code of another package, which is not allowed here"),
        ("network.type=elsewhere:Net", "elsewhere:Net is code of another package"),
        ("weighting=min_snr", "has its own weights: it cannot have min_snr"),
        ("network.type=nowhere", "or yours, package.module:Class"),
    ],
)
def test_a_recipe_that_cannot_be_used_says_why(recipe: Callable[..., Recipe], change: str, reason: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipe(change)
    assert reason in str(error.value)


def test_nothing_is_allowed_by_default(recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match="not allowed here: if you trust it, set DIFUSO_NETWORKS"):
        recipe(networks=())


def test_figures_can_be_measured_against_the_source(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe()
    given: dict[str, Any] = {"shape": Shape(3, 8, 8), "networks": [PACKAGE]}
    assert real_images(str(tmp_path / "own.toml"), 5, **given).shape == (5, 8, 8, 3)
