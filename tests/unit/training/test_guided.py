"""A noisy classifier is trained for the model that it guides, becomes a part of it, and guides it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from difuso.jobs.params import SamplingParams
from difuso.model import load_checkpoint, save_checkpoint
from difuso.model.folders.config import ModelConfig
from difuso.model.folders.files import CLASSIFIER, WEAKER, WEIGHTS, file_sha256
from difuso.model.networks.build import build_network
from difuso.model.networks.configs import ClassifierConfig, UNetConfig
from difuso.training.errors import RecipeError
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.initial import seeds_of
from difuso.training.run.journal import read_metrics
from difuso.training.run.run import train
from difuso.worker.stepping.runner import Runner
from tests.shades import UNET, guided_model, shades, write_recipe
from tests.small_models import model_of

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """The recipe of a classifier of dark and bright images, with changes."""
    guided_model(tmp_path / "guided")
    path = write_recipe(tmp_path, guides=tmp_path / "guided")
    return lambda *changes: load_recipe(str(path), changes)


def test_a_recipe_has_what_its_model_has(recipe: Callable[..., Recipe]) -> None:
    read = recipe()
    assert isinstance(read.network, ClassifierConfig)
    assert (read.network.image_size, read.network.in_channels, read.network.num_classes) == (8, 3, 2)
    assert (read.image_size, read.channels, read.schedule.type) == (8, 3, "cosine")
    assert (read.loss, read.prediction) == ("cross_entropy", "v")
    assert read.data.classes == ("dark", "bright")
    assert read.held_out is not None
    assert read.held_out.source == "npz"
    assert read.held_out.path.endswith("others.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("guides=nowhere", "guides = 'nowhere': there is no such folder"),
        ("image_size=16", "image_size comes from the model that the classifier guides: leave it out"),
        ("network.num_classes=3", "the guided model has 2 classes: leave network.num_classes out"),
        ('data.classes=["bright", "dark"]', "data.classes must be the guided model's, in their order"),
        ("loss=simple", "loss is there for networks that make images"),
        ("network.channel_mult=[1, 1, 1, 1, 1]", "image_size of a classifier must be a multiple of 16, got 8"),
        ("held_out.path=IMAGES", "held_out are the images of data: name others, or keep some"),
        ("network.type=unet", "guides is there for a classifier: leave it out, or set network.type"),
    ],
)
def test_what_contradicts_the_model_is_refused(recipe: Callable[..., Recipe], change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(change.replace("IMAGES", recipe().data.path))


def test_other_networks_cannot_have_a_classifier_s_loss() -> None:
    with pytest.raises(RecipeError, match="loss cross_entropy is there for a network of type classifier"):
        load_recipe("smoke", ["loss=cross_entropy"])


def test_a_model_without_classes_gets_the_classifier_s(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    guided_model(tmp_path / "guided", classes=None)
    with pytest.raises(RecipeError, match="the guided model has no classes: set"):
        recipe()
    out = tmp_path / "run"
    train(recipe("network.num_classes=2", "max_steps=2"), out)
    config = load_checkpoint(out / "model").config
    assert (config.classes, config.num_labels) == (None, 2)


def test_a_model_that_learned_its_variance_and_names_two_classes_alike_gets_a_classifier(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    """As ADM did, and as ImageNet's classes are named."""
    learned = UNetConfig(num_classes=2, out_channels=6, **UNET)
    config = ModelConfig(learned, image_size=8, variance="learned_range", classes=("crane", "crane"))
    save_checkpoint(tmp_path / "guided", config, build_network(learned))
    read = recipe()
    assert (read.data.classes, read.num_classes, read.loss) == (("crane", "crane"), 2, "cross_entropy")
    train(dataclasses.replace(read, max_steps=2), tmp_path / "run")
    assert load_checkpoint(tmp_path / "run" / "model").config.classes == ("crane", "crane")
    assert json.loads((tmp_path / "run/data/report.json").read_text())["classes"]["crane"] == len(shades(64, 0)[0])


def test_held_out_images_of_other_classes_are_refused(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    """Where the guided model only numbers its classes, each folder may name its own."""
    guided_model(tmp_path / "guided", classes=None)
    for part, names in {"pets": ("cat", "dog"), "others": ("bird", "cat")}.items():
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(8):
                Image.new("RGB", (8, 8)).save(tmp_path / part / name / f"{i}.png")
    changes = ["network.num_classes=2", "max_steps=2"]
    for table, part in (("data", "pets"), ("held_out", "others")):
        changes += [f"{table}.source=folder", f"{table}.path={tmp_path / part}"]
    with pytest.raises(RecipeError, match="have the classes bird, cat, but the set of training has cat, dog"):
        train(recipe(*changes), tmp_path / "run")


def test_classes_in_another_order_are_refused(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    """A folder names its own classes, in alphabetical order."""
    for name, shade in (("dark", 0), ("bright", 255)):
        (tmp_path / "folder" / name).mkdir(parents=True)
        for i in range(8):
            Image.new("RGB", (8, 8), (shade,) * 3).save(tmp_path / "folder" / name / f"{i}.png")
    changes = ("data.source=folder", f"data.path={tmp_path / 'folder'}")
    with pytest.raises(
        RecipeError, match="the images have the classes bright, dark, but the guided model has dark, br"
    ):
        train(recipe(*changes), tmp_path / "run")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    """The folder of a run of seconds; next to it lies `guided`, the model that it began with."""
    folder = tmp_path_factory.mktemp("trained")
    path = write_recipe(folder, guides=guided_model(folder / "guided"))
    assert train(load_recipe(str(path)), folder / "run") == 60
    return folder / "run"


def test_a_run_leaves_the_model_with_its_classifier_and_no_other_bit_changed(trained: Path) -> None:
    guided = trained.with_name("guided")
    before, after = load_checkpoint(guided), load_checkpoint(trained / "model")
    assert file_sha256(trained / "model" / WEIGHTS) == file_sha256(guided / WEIGHTS)
    assert after.classifier is not None
    training = dict(after.config.training)
    facts = training.pop("classifier")
    assert (facts["steps"], facts["images"], facts["recipe"]["weight_decay"]) == (60, 960, 0.05)
    assert dataclasses.replace(after.config, classifier=None, training=training) == before.config
    entries = read_metrics(trained / "metrics.jsonl")
    assert entries[-1].keys() >= {"loss", "loss/q1", "accuracy", "accuracy/q1", "accuracy/q4", "grad_norm", "lr"}
    assert "vlb" not in entries[-1]
    assert entries[-1].keys() >= {"held_out/accuracy", "held_out/accuracy/q1", "held_out/accuracy/q4", "held_out/loss"}
    assert entries[-1]["held_out/accuracy/q1"] > 0.95
    assert entries[-1]["held_out/loss"] < np.log(2)
    assert (trained / "losses.png").stat().st_size > 1000
    assert not (trained / "sheets").exists()
    assert json.loads((trained / "held_out/report.json").read_text())["classes"] == {"dark": 32, "bright": 32}


def test_a_weaker_network_stays_with_the_model(tmp_path: Path, recipe: Callable[..., Recipe]) -> None:
    guided = load_checkpoint(tmp_path / "guided")
    config = dataclasses.replace(guided.config, weaker=guided.config.network)
    save_checkpoint(tmp_path / "guided", config, guided.network, weaker=guided.network)
    train(recipe("max_steps=1"), tmp_path / "run")
    after = load_checkpoint(tmp_path / "run/model")
    assert after.classifier is not None
    assert after.weaker is not None
    assert file_sha256(tmp_path / "run/model" / WEAKER) == file_sha256(tmp_path / "guided" / WEAKER)


@pytest.mark.parametrize(
    ("sampler", "spacing"),
    [
        ("ddim", "leading"),
        pytest.param("ddpm", "linspace", marks=pytest.mark.slow),
        pytest.param("unipc", "leading", marks=pytest.mark.slow),
    ],
)
def test_the_classifier_guides_images_to_its_class(trained: Path, sampler: str, spacing: str) -> None:
    """A network that draws noise is led to the shade of the label."""
    model = model_of(Runner(load_checkpoint(trained / "model"), device=torch.device("cpu"), slots=4))
    shade: dict[tuple[int, float], float] = {}
    runs = [(label, scale) for scale in (0.0, 8.0) for label in (0, 1)]
    params = [
        SamplingParams(
            n=4, steps=20, sampler=sampler, spacing=spacing, eta=0, seed=1, label=label, classifier_scale=scale
        )
        for label, scale in runs
    ]

    def keep(number: int, pngs: list[bytes]) -> None:
        shade[runs[number]] = float(np.mean([np.asarray(Image.open(BytesIO(png))) for png in pngs]))

    model.draw(params, keep, {})
    assert shade[0, 0.0] == shade[1, 0.0], "without a scale the label says nothing"
    assert shade[0, 8.0] + 3 < shade[0, 0.0] < shade[1, 8.0] - 3


def test_a_run_begins_from_the_classifier_of_a_checkpoint(
    tmp_path: Path, trained: Path, recipe: Callable[..., Recipe]
) -> None:
    out = tmp_path / "again"
    train(recipe(f"init={trained / 'model'}", "max_steps=1", "learning_rate=1e-9"), out)
    one, other = (load_checkpoint(folder / "model").classifier for folder in (trained, out))
    assert one is not None
    assert other is not None
    for name, tensor in one.state_dict().items():
        assert torch.allclose(tensor, other.state_dict()[name], atol=1e-6), name
    seeds = seeds_of(recipe(f"init={trained / 'model'}"))
    assert seeds.origin == file_sha256(trained / "model" / CLASSIFIER), "the guided model is the same in every training"
    with pytest.raises(RecipeError, match="this model has no classifier to begin from"):
        train(recipe(f"init={tmp_path / 'guided'}"), tmp_path / "third")
