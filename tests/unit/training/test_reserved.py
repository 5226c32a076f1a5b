"""Reserved images are trained on by no run, and are the same ones wherever their files lie and in whichever order."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from difuso.evaluation.real_images import real_images
from difuso.model.shape import Shape
from difuso.training.choices import SourceName
from difuso.training.data.dataset import load_for_training, scan
from difuso.training.data.image_files import of_split
from difuso.training.data.source_images import open_source
from difuso.training.errors import RecipeError
from difuso.training.recipe import Data, Recipe
from difuso.training.recipe_reading import load_recipe
from tests.image_files import png_of, write_folder, write_zip

COUNT, RESERVED = 40, 12
KINDS = ("cat", "dog")
NAMES = [f"{KINDS[i % 2]}/{KINDS[i % 2]}_{i}.png" for i in range(COUNT)]


CONTENT = {name: png_of(np.full((8, 8, 3), i, np.uint8)) for i, name in enumerate(NAMES)}


def shades(source: SourceName, path: Path, *, split: str = "train", reserved: int = RESERVED) -> list[int]:
    data = Data(source=source, path=str(path), split=split, reserved=reserved)
    images = [item.image for item in open_source(data, Shape.of(8, 3)).items]
    return [int(image[0, 0, 0]) for image in images if image is not None]


def recipe(path: Path, *changes: str) -> Recipe:
    given = ("image_size=8", "network.channel_mult=[1]", "batch_size=2", f"data.reserved={RESERVED}")
    return load_recipe("smoke", ["data.source=zip", f"data.path={path}", *given, *changes])


def test_no_reserved_image_is_trained_on(tmp_path: Path) -> None:
    """The array that a run reads holds none, and what evaluation compares with holds nothing else."""
    mine = recipe(write_zip(tmp_path / "a.zip", CONTENT))
    scan(mine, tmp_path / "data")
    trained = set(load_for_training(mine, tmp_path / "data").images[:, 0, 0, 0].tolist())
    text = (
        '[data]\nsource = "zip"\npath = "{}"\nreserved = {}\n[network]\nchannels = 16\ngroups = 8\nhead_channels = 16\n'
    )
    file = tmp_path / "mine.toml"
    file.write_text('name = "mine"\nimage_size = 8\n' + text.format(tmp_path / "a.zip", RESERVED), "utf-8")
    held_out = set(real_images(str(file), None, shape=Shape.of(8, 3))[:, 0, 0, 0].tolist())
    assert len(held_out) == RESERVED
    assert len(trained) == COUNT - RESERVED
    assert not trained & held_out
    assert set(real_images(str(file), None, shape=Shape.of(8, 3), split="train")[:, 0, 0, 0].tolist()) == trained


def test_the_choice_follows_from_the_names_alone(tmp_path: Path) -> None:
    """Neither the order of the files, nor the folder around them, nor the source that reads them decides."""
    expected = sorted(shades("zip", write_zip(tmp_path / "a.zip", CONTENT), split="test"))
    assert len(expected) == RESERVED
    assert (
        sorted(
            shades("zip", write_zip(tmp_path / "b.zip", {name: CONTENT[name] for name in NAMES[::-1]}), split="test")
        )
        == expected
    )
    assert (
        sorted(
            shades("zip", write_zip(tmp_path / "c.zip", {f"Set/{name}": CONTENT[name] for name in NAMES}), split="test")
        )
        == expected
    )
    assert sorted(shades("folder", write_folder(tmp_path / "d", CONTENT), split="test")) == expected
    backwards = of_split([PurePosixPath(name) for name in NAMES[::-1]], Data(split="test", reserved=RESERVED))
    assert sorted(NAMES.index(str(name)) for name in backwards) == expected


def test_these_names_are_reserved_for_ever() -> None:
    """Models are measured on them years after their training: the rule must not change."""
    reserved = of_split(
        [PurePosixPath(f"Forest/Forest_{i}.jpg") for i in range(1, 201)], Data(split="test", reserved=4)
    )
    assert [name.stem for name in reserved] == ["Forest_23", "Forest_66", "Forest_144", "Forest_191"]


def test_the_halves_together_are_the_whole_and_have_all_its_classes(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", CONTENT)
    whole = shades("zip", path, reserved=0)
    assert sorted(shades("zip", path) + shades("zip", path, split="test")) == sorted(whole)
    few = Data(source="zip", path=str(path), split="test", reserved=1)
    assert open_source(few, Shape.of(8, 3)).classes == KINDS


def test_files_of_one_name_are_as_many_as_asked_for() -> None:
    names = [PurePosixPath(f"{kind}/{i}.png") for kind in "abc" for i in range(10)]
    reserved = of_split(names, Data(split="test", reserved=7))
    assert len(reserved) == 7
    arrays = of_split([name.with_suffix(".npy") for name in names], Data(split="test", reserved=7))
    assert arrays == [name.with_suffix(".npy") for name in reserved]  # so images and their conditions go together


def test_nothing_left_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"holds 40 images: data\.reserved must be less, not 40"):
        shades("zip", write_zip(tmp_path / "a.zip", CONTENT), reserved=COUNT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("data.reserved=-1", "data.reserved: Input should be greater than or equal to 0, got -1"),
        ("data.source=npz", "data.reserved is for images with names of their own, of folder, zip, not npz"),
        ("data.split=validation", "data.split must be train or test, not validation"),
        ("data.split=test", "data.split test are the reserved images, which no run sees"),
    ],
)
def test_recipes_that_cannot_reserve_are_refused(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(tmp_path / "a.zip", change)
