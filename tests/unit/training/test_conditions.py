"""Conditional networks are trained on images and their conditions, whole or cropped at the same place."""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from difuso.model.conditions import Choice, Condition, Number
from difuso.model.images import from_levels
from difuso.model.network_inputs import Column, enlarge
from difuso.model.shape import Shape
from difuso.training.data.batches import Batches, Draws, Seeds, network_inputs
from difuso.training.data.conditions import columns_of, complete_column, never_together, smaller
from difuso.training.data.dataset import Dataset, first_images, load, scan
from difuso.training.data.images import ImageArray
from difuso.training.errors import RecipeError
from difuso.training.objective.objectives import timesteps_of
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.outcomes import ImageModel
from difuso.training.run.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = (
    *("image_size=32", "crop=16", "batch_size=4", "precision=float32", "warmup_steps=3", "max_steps=100"),
    *("network.channels=8", "network.channel_mult=[1]", "network.groups=4", "network.patch=2", "network.pixel_head=4"),
    *("condition.size=16", "data.flip=true", "defaults.steps=2"),
)
IMAGES = np.random.default_rng(0).integers(0, 256, (20, 32, 32, 3), dtype=np.uint8)
HELD = 4
LAST = np.arange(len(IMAGES))[-HELD:]
CPU = torch.device("cpu")


def tiny(*changes: str) -> Recipe:
    return load_recipe("faces64to128", [*TINY, *changes])


def data(channels: int = 3) -> Dataset:
    return Dataset(
        IMAGES, columns=seen(np.stack([smaller(image, Shape.of(16, channels)) for image in IMAGES])), held=LAST
    )


def seen(conditions: ImageArray) -> dict[str, Column]:
    return {"image": complete_column(conditions)}


def trainer(recipe: Recipe) -> Trainer:
    return Trainer(recipe, Batches(data(), recipe.batch_size, seed=recipe.seed))


def steps(it: Trainer, count: int) -> Trainer:
    for _ in islice(it.steps(), count):
        pass
    return it


def test_image_and_condition_are_cropped_and_mirrored_alike() -> None:
    """Where nothing is added to it, the condition that is shown is the enlarged whole, at the place of the crop."""
    recipe = tiny("condition.max_augmentation=0.0")
    batches = Batches(data(), 4, seed=0)
    draws, timesteps = Draws(recipe, Seeds(recipe.seed), CPU), timesteps_of(recipe, recipe.schedule.build())
    mirrored, corners = 0, set()
    for batch in islice(batches, 10):
        drawn = draws.next(timesteps)
        x0, inputs = network_inputs(recipe, batch, drawn, slice(1, 4), CPU)
        assert not inputs["level"].any()
        wholes = from_levels(batch.pixels)[1:], enlarge(from_levels(batch.columns["image"].values), (32, 32))[1:]
        for i, (y, x) in enumerate(drawn.corners[1:].tolist()):
            corners.add((y, x))
            for whole, shown in zip(wholes, (x0, inputs["planes"]), strict=True):
                crop = whole[i, :, y : y + 16, x : x + 16]
                assert torch.equal(shown[i], crop.flip(-1) if drawn.symmetries[1 + i] else crop)
            mirrored += int(drawn.symmetries[1 + i])
    assert 5 < mirrored < 25
    assert len(corners) > 20
    assert {0 <= y <= 16 and 0 <= x <= 16 for y, x in corners} == {True}


def test_conditions_get_noise_of_the_level_that_the_network_gets() -> None:
    recipe = tiny("condition.max_augmentation=0.5", "crop=0", "condition.size=32", "data.flip=false")
    images = np.full((40, 32, 32, 3), 127, dtype=np.uint8)
    batches = Batches(Dataset(images, columns=seen(images), held=LAST), 4, seed=0)
    draws, timesteps = Draws(recipe, Seeds(recipe.seed), CPU), timesteps_of(recipe, recipe.schedule.build())
    levels = []
    for batch in islice(batches, 20):
        _, inputs = network_inputs(recipe, batch, draws.next(timesteps), slice(None), CPU)
        deviations = inputs["planes"].std(dim=(1, 2, 3))
        assert deviations.tolist() == pytest.approx(inputs["level"].tolist(), rel=0.1, abs=1e-3)
        levels += inputs["level"].tolist()
    assert 0 <= min(levels) < 0.1
    assert 0.4 < max(levels) <= 0.5


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["simple", "regression"])
def test_the_network_learns_to_use_the_condition(loss: str) -> None:
    """Held images are drawn from their conditions alone, and much better than from those of others."""
    steps = (
        "max_steps=120",
        "decay_steps=60",
        "learning_rate=0.005",
        "batch_size=8",
        "optimizer=adamw",
        f"loss={loss}",
    )
    recipe = tiny(*steps, "condition.max_augmentation=0.0", "data.flip=false")
    blocks = np.random.default_rng(1).integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
    images = np.ascontiguousarray(blocks.repeat(8, axis=1).repeat(8, axis=2))
    conditions = np.stack([smaller(image, Shape.of(16, 3)) for image in images])
    it = Trainer(recipe, Batches(Dataset(images, columns=seen(conditions), held=LAST), 8, seed=0))
    losses = [float(facts.loss) for facts in it.steps()]
    assert np.mean(losses[-20:]) < 0.4 * np.mean(losses[:5])
    drawn, held = ImageModel(it).samples(range(HELD)), from_levels(torch.from_numpy(images[-HELD:]))
    assert (drawn - held).abs().mean() < 0.15 < 0.4 < (drawn.roll(1, 0) - held).abs().mean()


def test_held_images_are_never_trained_on() -> None:
    batches = Batches(data(), 4, seed=0)
    seen = {tuple(image.flatten().tolist()) for batch in islice(batches, 12) for image in batch.pixels}
    assert seen == {tuple(image.flatten().tolist()) for image in IMAGES[:-HELD]}


def test_a_sheet_shows_condition_image_and_original_side_by_side() -> None:
    sheet = ImageModel(trainer(tiny())).sheet()
    assert sheet.shape == (16, 3, 32, 96)
    condition = from_levels(torch.from_numpy(smaller(IMAGES[-3], Shape.of(16, 3))[None].copy()))
    assert torch.equal(sheet[1, :, :, :32], enlarge(condition, (32, 32))[0])
    assert torch.equal(sheet[5, :, :, 64:], from_levels(torch.from_numpy(IMAGES[-3:-2]))[0])


def test_of_every_class_images_are_trained_on_and_held(tmp_path: Path) -> None:
    """Folders are read class by class."""
    for name in "abcd":
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (32, 32), (i, ord(name), 0)).save(tmp_path / "set" / name / f"{i}.png")
    where = ("data.source=folder", f"data.path={tmp_path / 'set'}", "network.num_classes=4", "label_drop=0.1")
    recipe = tiny(*where, "batch_size=2")
    scan(recipe, tmp_path / "data")
    found = load(recipe, tmp_path / "data")
    assert found.labels is not None
    assert found.labels[found.held].tolist() == [0, 1, 2, 3]
    assert np.bincount(found.labels[found.trained]).tolist() == [9, 9, 9, 9]


@pytest.mark.parametrize(("channels", "mode"), [(3, "RGB"), (1, "L")])
def test_a_condition_is_the_image_made_smaller(channels: int, mode: str) -> None:
    """Halving is the mean of four pixels, in grey if the condition is grey."""
    small = smaller(IMAGES[0], Shape.of(16, channels))
    reference = np.asarray(Image.fromarray(IMAGES[0]).convert(mode)).reshape(32, 32, channels).astype(float)
    assert np.abs(small - reference.reshape(16, 2, 16, 2, channels).mean(axis=(1, 3))).max() <= 1  # rounded twice


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Path, Path]:
    """Twelve photographs, and a drawing of each in another format; one drawing is torn."""
    photos, drawings = tmp_path / "photos", tmp_path / "drawings"
    for folder in (photos, drawings):
        folder.mkdir()
    for i in range(12):
        Image.new("RGB", (32, 32), (10 * i, 0, 0)).save(photos / f"{i:02}.png")
        Image.new("L", (40, 40), 10 * i).save(drawings / f"{i:02}.bmp")
    (drawings / "03.bmp").write_bytes(b"BM")
    return photos, drawings


def paired(photos: Path, drawings: Path) -> Recipe:
    where = ("data.source=folder", f"data.path={photos}", f"data.condition_paths.image={drawings}")
    return tiny(*where, "network.condition_channels=1", "condition.size=32", "batch_size=2")


def test_folders_of_the_same_names_are_pairs(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    recipe = paired(*pairs)
    scan(recipe, tmp_path / "data")
    found = load(recipe, tmp_path / "data")
    conditions = found.columns["image"].values
    assert conditions.shape == (11, 32, 32, 1)
    if sys.platform == "linux":  # a map that could be written to counts as memory, and may be refused
        mapped = [line for line in Path("/proc/self/maps").read_text().splitlines() if "data/image.bytes" in line]
        assert {line.split()[1] for line in mapped} == {"r--s"}
    kept = [10 * i for i in range(12) if i != 3]
    assert found.images[:, 0, 0, 0].tolist() == kept == conditions[:, 0, 0, 0].tolist()
    assert found.held.tolist() == [0]
    assert '"03.png": "condition image: ' in (tmp_path / "data" / "report.json").read_text()
    first = first_images(recipe)
    assert first.columns["image"].values[:, 0, 0, 0].tolist() == [0, 10]
    assert torch.isfinite(next(Trainer(recipe, Batches(found, 2, seed=0)).steps()).loss)


def test_an_image_without_a_partner_is_named(pairs: tuple[Path, Path], tmp_path: Path) -> None:
    photos, drawings = pairs
    (drawings / "05.bmp").unlink()
    with pytest.raises(RecipeError, match=r"05\.png has no partner: .* files of the same names"):
        scan(paired(photos, drawings), tmp_path / "data")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("crop=15", "crop must be a multiple of 2 up to image_size, 32, or 0, not 15"),
        ("crop=64", "crop must be a multiple of 2 up to image_size, 32"),
        ("condition.size=64", "condition.size must be at most image_size"),
        ("data.condition_paths.image=there", "leave condition_paths out"),
        ("condition.what=1", "unknown key condition.what: known are condition.size"),
    ],
)
def test_a_recipe_that_cannot_be_trained_is_refused(change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        tiny(change)


HEADS: dict[str, Condition] = {
    "hair": Choice(("bald", "hat", "afro", "bun", "long", "short"), null=True),
    "colour": Choice(("none", "black", "red", "blond"), null=True),
    "age": Number(0, 100, null=True),
}


def never_in(*rows: tuple[str | None, str | None], times: int) -> list[dict[str, tuple[str, ...]]]:
    values = [{k: v for k, v in zip(HEADS, (*row, 30.0), strict=True) if v is not None} for row in rows] * times
    return [dict(entry) for entry in never_together(HEADS, columns_of(HEADS, values))]


def test_what_never_comes_together_is_declared_in_as_few_entries_as_say_it() -> None:
    rows = [("bald", "none"), ("hat", "none"), ("afro", "black"), ("bun", "black")]
    rows += [(hair, colour) for hair in ("long", "short") for colour in ("black", "red", "blond")]
    assert never_in(*rows, times=100) == [
        {"hair": ("bald", "hat"), "colour": ("black", "red", "blond")},
        {"hair": ("afro", "bun"), "colour": ("none", "red", "blond")},
        {"hair": ("long", "short"), "colour": ("none",)},
    ]
    assert never_in(("bald", "none"), ("afro", "black"), ("long", "black"), times=100) == [
        {"hair": ("bald",), "colour": ("black",)},
        {"hair": ("afro", "long"), "colour": ("none",)},
    ]


def test_absence_says_nothing_where_few_are_expected_or_one_condition_is_unknown() -> None:
    """Of 40 images, half bald and half red, ten would be both; of 38 fewer. One without a colour does not count."""
    halves = [("bald", "black"), ("long", "red")]
    assert len(never_in(*halves, times=20)) == 2
    assert never_in(*halves, times=19) == []
    assert never_in(*halves, ("bald", None), (None, "red"), times=19) == []
    assert never_in(("bald", None), times=99) == []
