"""Recipes with a network and functions of another package."""

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from difuso.evaluation.real_images import real_images
from difuso.model.checkpoint import load_checkpoint
from difuso.model.errors import ForeignError
from difuso.model.networks.build import build_network
from difuso.model.shape import Shape
from difuso.training.data.augmentation import augment_of
from difuso.training.data.batches import Batches, Draws, Seeds, network_inputs
from difuso.training.data.dataset import first_images
from difuso.training.data.source_images import open_source
from difuso.training.errors import RecipeError
from difuso.training.objective.objectives import objective_of, timesteps_of
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.processes import Processes
from difuso.training.run.run import train
from difuso.training.run.state import load_state, save_state
from difuso.training.run.trainer import Trainer
from tests.states import assert_equal
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
OWN = f"{PACKAGE}.training:"
SIMPLE = ("loss=simple", "warmup_steps=4", "data.flip=true")
CPU = torch.device("cpu")
EACH = {
    "timesteps": f"timesteps={OWN}late",
    "weighting": f"weighting={OWN}falling",
    "optimizer": f"optimizer={OWN}momentum",
    "augment": f"data.augment={OWN}brighter",
}


STACK = (
    *("channels=16", "shown=[5,0,15]", "prediction=v", "loss=simple", "max_steps=10", "sheet_every=10"),
    *("label_drop=0", "conditions={}", f"data.source={PACKAGE}.training:stacks"),
    f'network={{type="{PACKAGE}.nets:Stack",in_channels=16,out_channels=16}}',
)


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


def run(recipe: Recipe, steps: int, state: dict[str, Any] | None = None) -> Trainer:
    """Trains a few steps, from a state if there is one."""
    trainer = Trainer(recipe, Batches(first_images(recipe), recipe.batch_size, seed=0))
    if state is not None:
        trainer.load(state)
    for _ in islice(trainer.steps(), steps):
        pass
    return trainer


def rates(state: dict[str, Any]) -> list[tuple[float, float]]:
    return [(group["lr"], group["weight_decay"]) for group in state["optimizers"][0]["param_groups"]]


def test_a_stack_of_sixteen_slices_is_trained_ten_steps(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    assert train(recipe(*STACK), tmp_path / "run") == 10
    model = load_checkpoint(tmp_path / "run" / "model", networks=[PACKAGE])
    assert (model.config.channels, model.config.shown) == (16, (5, 0, 15))
    with Image.open(tmp_path / "run" / "sheet.png") as sheet:
        assert sheet.mode == "RGB"
    first = build_network(model.config.network).state_dict()["first.weight"]
    assert model.network.state_dict()["first.weight"].shape == first.shape == (4, 1, 3, 3, 3)
    with pytest.raises(RecipeError, match="shown must name three of 16 channels, from 0 on"):
        recipe(*STACK, "shown=[5,0,16]")


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


@pytest.mark.parametrize("key", EACH)
def test_a_resumed_run_is_bit_equal_to_one_that_never_stopped(
    recipe: Callable[..., Recipe], tmp_path: Path, key: str
) -> None:
    """With each function: weights and their average, the state of the optimiser, and the generators."""
    chosen = recipe(*SIMPLE, EACH[key], "max_steps=10")
    straight = run(chosen, 10)
    save_state(tmp_path, run(chosen, 5).state())
    assert_equal(run(chosen, 5, load_state(tmp_path)).state(), straight.state())


def test_timesteps_are_those_that_the_function_draws(recipe: Callable[..., Recipe]) -> None:
    chosen = recipe(EACH["timesteps"])
    draw = timesteps_of(chosen, chosen.schedule.build())
    t, again = (draw(200, torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(t, again)
    assert (int(t.min()), int(t.max())) == (50, 99)


def test_the_weighting_is_of_what_the_network_predicts(recipe: Callable[..., Recipe]) -> None:
    """Here of x_0: each factor multiplies the mean squared error as it is, and gamma is passed on."""
    t, x0 = torch.tensor([0, 25, 99]), torch.full((3, 3, 8, 8), 0.5)
    for gamma, changes in ((1.0, ()), (4.0, ("gamma=4.0",))):
        chosen = recipe("loss=simple", EACH["weighting"], *changes)
        objective = objective_of(chosen, chosen.schedule.build())
        losses = objective(lambda x, t: torch.zeros_like(x), x0, t, torch.randn_like(x0))
        assert torch.allclose(losses.loss, gamma * torch.tensor([1.0, 0.75, 0.01]) * 0.25)
        assert torch.allclose(losses.error, torch.tensor(0.25))


def test_the_learning_rate_of_each_group_follows_the_recipe(recipe: Callable[..., Recipe]) -> None:
    """Also the rate of another recipe with which the run goes on."""
    changes = (*SIMPLE, EACH["optimizer"], "weight_decay=0.25")
    state = run(recipe(*changes, "learning_rate=0.01"), 2).state()
    assert rates(state) == [(0.005, 0.25), (0.0005, 0)]
    later = run(recipe(*changes, "learning_rate=0.1"), 1, state)
    assert np.allclose(rates(later.state()), [(0.075, 0.25), (0.0075, 0)])


def test_images_are_augmented_then_cropped_then_turned(recipe: Callable[..., Recipe]) -> None:
    """Each with random numbers of its own, the same on any number of processes; levels are clamped."""
    chosen = recipe(*SIMPLE, EACH["augment"], "crop=6", "seed=3")
    images = first_images(chosen)
    found = []
    for count in (1, 2):
        parts = []
        for rank in range(count):
            share = Processes(rank, count).share(8)
            drawn = Draws(chosen, Seeds(3), CPU).next(timesteps_of(chosen, chosen.schedule.build())).part(share)
            batch = next(iter(Batches(images, 8, seed=0, share=share)))
            augment = augment_of(chosen.data.augment)
            parts.append(network_inputs(chosen, batch, drawn, slice(None), CPU, augment=augment)[0])
            for image, turned in zip(parts[-1], drawn.symmetries, strict=True):
                assert (image[:, :, -1 if turned else 0] == 1).all()
        found.append(torch.cat(parts))
    assert torch.equal(*found)
    assert len({*found[0].std(dim=(2, 3)).flatten().tolist()}) == 24


def test_images_that_others_must_fit_are_not_augmented(recipe: Callable[..., Recipe]) -> None:
    sketch = ("conditions.sketch={type='image', channels=1, size=8}", "data.condition_paths.sketch=x")
    assert recipe(*sketch).seen
    with pytest.raises(
        RecipeError, match=r"data\.augment changes training images, and sketch would no longer fit them"
    ):
        recipe(*sketch, EACH["augment"])


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("timesteps", "too_late must return 8 timesteps from 0 to 99, a tensor of int64"),
        ("weighting", "negative must return 100 factors, one for each timestep, finite and at least 0"),
        ("optimizer", "no_optimizer must return a torch.optim.Optimizer whose groups have a learning rate, lr"),
        ("optimizer", "stumbling cannot take a step: its code raised OSError: …"),
        ("optimizer", "hoarding: the state of its optimiser must be tensors, numbers and texts, to be saved"),
        ("data.augment", "halved must return floats of shape (3, 8, 8), that of its image"),
        ("data.augment", "endless returned NaN or infinity: levels must lie between -1 and 1"),
    ],
)
def test_a_function_that_is_wrong_is_named(recipe: Callable[..., Recipe], key: str, reason: str) -> None:
    chosen = recipe(*SIMPLE, f"{key}={OWN}{reason.split(':')[0].split()[0]}")
    with pytest.raises(ForeignError) as raised:
        run(chosen, 1).state()
    assert str(raised.value) == OWN + reason


READING = (
    f"network.type={PACKAGE}.nets:Attentive",
    "network.args.text=5",
    "conditions.text={type = 'sequence', width = 5, most = 4, null = true}",
    f"data.source={PACKAGE}.training:described",
    "condition_drop=0.2",
    "drop_all=0.1",
)


def test_a_network_is_trained_with_sequences(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    """They are stored once, of any length, and a resumed run ends with the same numbers."""
    chosen = recipe(*READING, "max_steps=10")
    columns = first_images(chosen).columns["text"]
    assert columns.present.tolist() == [0, 1, 2, 3] * 2
    assert columns.values.shape == (8, 4, 5)
    assert columns.values[2, :, 0].tolist() == [float(np.float32(np.float16(2 / 15)))] * 2 + [0, 0]
    assert train(chosen, tmp_path / "whole") == 10
    assert train(recipe(*READING, "max_steps=4"), tmp_path / "parts") == 4
    assert train(chosen, tmp_path / "parts") == 10
    whole, parts = (load_checkpoint(tmp_path / run / "model", networks=[PACKAGE]) for run in ("whole", "parts"))
    assert whole.config.input_names == ("labels", "vector", "sequence", "sequence_mask")
    assert not torch.equal(whole.network.key.weight, torch.zeros_like(whole.network.key.weight))  # type: ignore[union-attr, arg-type]
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, parts.network.state_dict()[name]), name
    said = json.loads(next((tmp_path / "whole").rglob("report.json")).read_text())
    assert said["conditions"] == {"bright": 40, "text": 30}


def test_tables_hold_no_sequences(recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match="tables hold no sequences: they come with the images of a source"):
        recipe(*READING, "data.source=folder", "data.table=a.csv")


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
        (f"weighting={OWN}falling", "has its own weights: it cannot have"),
        *((f"{key}=elsewhere:f", "elsewhere:f is code of another package") for key in ("timesteps", "optimizer")),
        ("data.augment=elsewhere:f", "elsewhere:f is code of another package, which is not allowed here"),
        ("optimizer=lion", "or yours, package.module:function"),
        ("optimizer=lab:", "'lab:' must be package.module:Name"),
        ("network.type=nowhere", "or yours, package.module:Class"),
    ],
)
def test_a_recipe_that_cannot_be_used_says_why(recipe: Callable[..., Recipe], change: str, reason: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipe(change)
    assert reason in str(error.value)


def test_checking_a_recipe_imports_nothing(recipe: Callable[..., Recipe]) -> None:
    """A module that does not exist is not missed."""
    nowhere = [f"{change.partition('=')[0]}={PACKAGE}.nowhere:function" for change in EACH.values()]
    assert [name for name in recipe("loss=simple", *nowhere).own_code if "nowhere" in name] == 4 * [
        f"{PACKAGE}.nowhere:function"
    ]


def test_nothing_is_allowed_by_default(recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match="not allowed here: if you trust it, set DIFUSO_NETWORKS"):
        recipe(networks=())


def test_figures_can_be_measured_against_the_source(recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe()
    given: dict[str, Any] = {"shape": Shape(3, 8, 8), "networks": [PACKAGE]}
    assert real_images(str(tmp_path / "own.toml"), 5, **given).shape == (5, 8, 8, 3)
