"""A teacher draws pairs: which they are, how they are kept, and what cannot be drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from difuso.model import Checkpoint, load_checkpoint, networks_of, sample, save_checkpoint
from difuso.model.conditions import Choice
from difuso.model.folders.config import ConditionConfig
from difuso.model.images import to_uint8
from difuso.model.networks.configs import UNetConfig
from difuso.model.noise import draw_noise, image_generator
from difuso.training.data import dataset, pairs
from difuso.training.data.batches import Batches
from difuso.training.data.dataset import PARTS, Dataset, first_images
from difuso.training.data.pairs import FIRST_SEED, Pairs, noise_of
from difuso.training.data.source_images import open_source
from difuso.training.errors import RecipeError
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from tests.small_models import CLASSES, NETWORK, WEAKER, checkpoint_of
from tests.teachers import EXAMPLES, HAIR, LABELLED, UNET

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
TINY = (
    *("image_size=8", "batch_size=8", "prediction=v", "network.channels=8", "network.channel_mult=[1]"),
    *("network.groups=4", "network.head_channels=8", "data.source=teacher", "data.count=20"),
    *("data.settings.sampler=unipc", "data.settings.steps=3", "data.settings.spacing=exponential"),
)
ENLARGING = UNetConfig(condition_channels=3, **NETWORK)
WITH_CLASSES = ("network.num_classes=3", "data.free=0.3")


def recipe(teacher: Checkpoint, folder: Path, *changes: str) -> Recipe:
    """A recipe of what a teacher draws, which is saved first."""
    networks: dict[str, Any] = {"weaker": teacher.weaker, "classifier": teacher.classifier}
    save_checkpoint(folder / "teacher", teacher.config, teacher.network, dtype=torch.float32, **networks)
    return load_recipe("smoke", [*TINY, f"data.path={folder / 'teacher'}", *changes])


def drawn(recipe: Recipe, folder: Path) -> Dataset:
    dataset.draw(recipe, folder, CPU)
    dataset.scan(recipe, folder)
    return dataset.load(recipe, folder)


def test_a_pair_is_what_the_teacher_draws_for_its_seed_and_the_next_example(tmp_path: Path) -> None:
    made = recipe(checkpoint_of(UNET, conditions=HAIR, examples=EXAMPLES), tmp_path)
    found, teacher = drawn(made, tmp_path / "data"), load_checkpoint(tmp_path / "teacher")
    plan = teacher.config.plan(teacher.schedule, sampler="unipc", steps=3, spacing="exponential", eta=0)
    assert len(found.images) == 20
    for row in (0, 1, 6, 19):
        conditions = {name: column[row % 4] for name, column in EXAMPLES.items()}
        alone = sample(plan, **networks_of(teacher, None, conditions), shape=(3, 8, 8), seeds=[FIRST_SEED + row])
        assert np.abs(to_uint8(alone)[0].numpy().astype(int) - found.images[row]).max() <= 1  # by the size of the batch
    assert made.conditions == HAIR, "those of its teacher"
    assert found.columns["age"].values[:5].tolist() == [30.0, 1.0, 77.5, 50.0, 30.0]
    assert found.columns["hair"].present.all()


@pytest.mark.parametrize("weaker", [None, UNetConfig(num_classes=3, **WEAKER)], ids=["labels", "weaker"])
def test_pairs_are_guided_and_some_have_no_class(tmp_path: Path, weaker: UNetConfig | None) -> None:
    teacher = checkpoint_of(LABELLED, classes=CLASSES, weaker=weaker)
    made = recipe(teacher, tmp_path, *WITH_CLASSES, "data.settings.guidance_scale=3.0")
    found, teacher = drawn(made, tmp_path / "data"), load_checkpoint(tmp_path / "teacher")
    assert found.classes == CLASSES
    assert found.labels is not None
    named = found.labels[found.labels < 3]
    assert 8 <= len(named) < 20
    assert named.tolist() == [turn % 3 for turn in range(len(named))], "the classes in turn"
    settings: dict[str, Any] = {
        "sampler": "unipc",
        "steps": 3,
        "spacing": "exponential",
        "eta": 0,
        "guidance_scale": 3.0,
    }
    plan = teacher.config.plan(teacher.schedule, **settings)
    for row in (int(np.argmax(found.labels == 1)), int(np.argmax(found.labels == 3))):
        label = int(found.labels[row]) if found.labels[row] < 3 else None
        networks = networks_of(teacher, label)
        networks["base"] = networks["base"] or networks["denoiser"]  # without a class there is nothing to leave out
        alone = sample(plan, **networks, shape=(3, 8, 8), seeds=[FIRST_SEED + row])
        assert np.abs(to_uint8(alone)[0].numpy().astype(int) - found.images[row]).max() <= 1


def test_each_image_of_a_batch_comes_with_the_noise_that_it_was_drawn_from(tmp_path: Path) -> None:
    made = recipe(checkpoint_of(UNetConfig(**NETWORK)), tmp_path)
    found = drawn(made, tmp_path / "data")
    batch = next(iter(Batches(found, 8, seed=0, share=slice(4, 8))))
    assert batch.noise is not None
    assert batch.noise.shape == (4, 3, 8, 8)
    for pixels, noise in zip(batch.pixels, batch.noise, strict=True):
        row = next(row for row, image in enumerate(found.images) if np.array_equal(image, pixels.numpy()))
        assert torch.equal(noise, draw_noise([image_generator(FIRST_SEED + row)], (3, 8, 8))[0])
    assert torch.equal(noise_of(np.array([3]), found.images), noise_of(np.array([2, 3]), found.images)[1:])


def test_parts_are_the_same_by_any_processes_and_only_missing_ones_are_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a process that is killed loses the part that it draws."""
    monkeypatch.setattr(pairs, "PART", 8)
    monkeypatch.setattr(pairs, "BATCH", 4)
    made = recipe(checkpoint_of(UNetConfig(**NETWORK)), tmp_path)
    whole, by_two = Pairs(made, CPU), tmp_path / "two" / PARTS
    whole.keep(tmp_path / "one" / PARTS)
    paths = sorted((tmp_path / "one" / PARTS).rglob("*.npy"))
    assert [len(np.load(path)) for path in paths] == [8, 8, 4]
    Pairs(made, CPU).keep(by_two, process=1, processes=2)
    second = next(by_two.rglob("*.npy"))
    second.with_name(second.name + ".tmp").write_bytes(b"half")
    before = second.stat().st_mtime_ns
    for process in (0, 1):
        Pairs(made, CPU).keep(by_two, process=process, processes=2)
    assert second.stat().st_mtime_ns == before
    assert [path.read_bytes() for path in sorted(by_two.rglob("*.npy"))] == [path.read_bytes() for path in paths]
    monkeypatch.setattr(Pairs, "_draw", None)  # all is there
    images = drawn(made, tmp_path / "two").images
    assert np.array_equal(images, np.concatenate([np.load(path) for path in paths]))


def test_another_teacher_draws_its_own_parts(tmp_path: Path) -> None:
    made = recipe(checkpoint_of(UNetConfig(**NETWORK)), tmp_path)
    Pairs(made, CPU).keep(tmp_path / PARTS)
    other = replace(made, data=replace(made.data, settings=replace(made.data.settings, steps=4)))
    Pairs(other, CPU).keep(tmp_path / PARTS)
    assert len([*tmp_path.rglob("*.npy")]) == 2


def test_a_look_at_the_first_pairs_writes_nothing(tmp_path: Path) -> None:
    made = recipe(checkpoint_of(UNetConfig(**NETWORK)), tmp_path)
    there = {*tmp_path.rglob("*")}
    first = first_images(made)
    assert first.paired
    assert len(first.images) == 8
    assert {*tmp_path.rglob("*")} == there


@pytest.mark.parametrize(
    ("teacher", "changes", "said"),
    [
        (lambda: checkpoint_of(UNET, conditions=HAIR), (), "carries no examples of age: train it with `examples`"),
        (lambda: checkpoint_of(ENLARGING, condition=ConditionConfig(4)), (), "this model enlarges images"),
        (lambda: checkpoint_of(UNetConfig(**NETWORK)), ("image_size=16",), "this model draws 8x8 pixels in 3 channels"),
        (lambda: checkpoint_of(UNetConfig(**NETWORK)), ("data.settings.sampler=ddpm",), "draw noise on the way"),
        (lambda: checkpoint_of(UNetConfig(**NETWORK)), ("data.settings.steps=2000",), "data.settings: steps must lie"),
        (lambda: checkpoint_of(UNetConfig(**NETWORK)), ("data.settings.guidance_scale=2.0",), "has no classes"),
        (lambda: checkpoint_of(LABELLED, classes=CLASSES), (), "has 3 classes: set network.num_classes"),
        (
            lambda: checkpoint_of(replace(LABELLED, null_class=False), classes=CLASSES),
            WITH_CLASSES,
            "this model needs label: set data.free to 0",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    tmp_path: Path, teacher: Callable[[], Checkpoint], changes: tuple[str, ...], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        Pairs(recipe(teacher(), tmp_path, *changes), CPU)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("data.path=nowhere",), "data.path = 'nowhere'"),
        (("data.flip=true",), "belongs to its noise"),
        (("condition_drop=0.1",), "belongs to its conditions"),
        (("network.num_classes=3",), r"can be asked without a class: set data\.free"),
        (("conditions.hair.type=choice",), "the conditions are those of the teacher"),
        (("data.source=faces", "loss=regression"), "set data.source to teacher"),
        (("data.source=faces",), r"data\.settings and data\.free are of a model"),
        (("loss=regression",), "with loss regression a network learns ddim"),
        (("loss=regression", "timesteps=stratified"), "has timesteps of its own"),
        (("loss=regression", "prediction=eps"), "must predict v or x0"),
    ],
)
def test_a_recipe_of_pairs_that_contradicts_itself_is_refused(
    tmp_path: Path, changes: tuple[str, ...], said: str
) -> None:
    with pytest.raises(RecipeError, match=said):
        recipe(checkpoint_of(UNetConfig(**NETWORK)), tmp_path, "defaults.spacing=leading", *changes)


def test_images_of_a_teacher_are_no_reference(tmp_path: Path) -> None:
    made = recipe(checkpoint_of(UNetConfig(**NETWORK)), tmp_path)
    for opened in (lambda: open_source(made.data, made.shape), lambda: dataset.scan(made, tmp_path / "real")):
        with pytest.raises(RecipeError, match="name a recipe or a folder of real ones"):
            opened()


def test_choices_that_must_be_named_are_drawn_from_the_examples_too(tmp_path: Path) -> None:
    needed = {**HAIR, "hair": Choice(("long", "short", "none"))}
    made = recipe(checkpoint_of(UNET, conditions=needed, examples=EXAMPLES), tmp_path)
    assert drawn(made, tmp_path / "data").columns["hair"].present.all()
