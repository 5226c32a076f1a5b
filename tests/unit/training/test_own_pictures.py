"""A folder or an archive of pictures becomes a recipe, with their folders as classes and a table as conditions."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from difuso import cli
from difuso.errors import UserError
from difuso.model import load_checkpoint
from difuso.model.conditions import Choice, Number
from difuso.training.data.conditions import open_with_conditions
from difuso.training.errors import RecipeError
from difuso.training.own_pictures import LEAST, MOST_SHOWN, PRESETS, look_at, recipe_text
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from tests.icons import icons, zipped_by_finder

Archive = Callable[..., Path]


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """Makes an archive with so many pictures, each in the folder that a function of its number names."""

    def make(
        count: int = 60, folder: Callable[[int], str] = lambda index: f"pets/{['cat', 'dog'][index % 2]}/"
    ) -> Path:
        rng = np.random.default_rng(0)
        with zipfile.ZipFile(tmp_path / "my pets.zip", "w") as file:
            file.writestr("__MACOSX/pets/cat/0.png", b"no picture")
            for index in range(count):
                png = BytesIO()
                Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(png, "PNG")
                file.writestr(f"{folder(index)}{index}.png", png.getvalue())
        return tmp_path / "my pets.zip"

    return make


def loaded(path: Path, table: Path | None = None, preset: str = "taste", **given: Any) -> Recipe:
    file = path.parent / "made.toml"
    facts = {"name": "mine", "command": "difuso train", "step_seconds": 0.5, **given}
    file.write_text(recipe_text(look_at(path, table), preset, **facts), encoding="utf-8")
    return load_recipe(str(file))


@pytest.mark.parametrize("preset", PRESETS)
def test_a_recipe_has_the_folders_as_classes_and_as_many_steps_as_its_time_holds(archive: Archive, preset: str) -> None:
    recipe = loaded(archive(), preset=preset, step_seconds=30.0)
    assert (recipe.num_classes, recipe.label_drop, recipe.data.source) == (2, 0.1, "zip")
    assert recipe.image_size == PRESETS[preset].image_size
    assert recipe.max_steps == min(60 * PRESETS[preset].minutes / 30, MOST_SHOWN * 60 / recipe.batch_size)
    assert recipe.save_every * 30 <= 120  # seconds: the most that a kill costs
    short = loaded(archive(), preset=preset, minutes=1, step_seconds=0.1)
    assert short.save_every == short.sheet_every == -(-short.max_steps // 10), "each sheet goes out with a model"
    assert loaded(archive(), preset=preset, minutes=15, step_seconds=30.0).max_steps == 30


def test_few_pictures_are_not_shown_for_as_long_as_there_is_time(archive: Archive) -> None:
    recipe = loaded(archive(), step_seconds=1e-4)
    assert recipe.max_steps * recipe.batch_size == MOST_SHOWN * 60


@pytest.mark.parametrize("folder", ["", "all/", "{}/"])
def test_pictures_without_folders_in_one_or_in_one_each_have_no_classes(archive: Archive, folder: str) -> None:
    assert loaded(archive(folder=folder.format)).num_classes is None


@pytest.mark.parametrize(("count", "held_out"), [(60, 0), (65, 0), (66, 16), (400, 20), (5200, 256)])
def test_some_of_enough_pictures_are_kept_from_training(archive: Archive, count: int, held_out: int) -> None:
    recipe = loaded(archive(count), step_seconds=1e-4)
    assert recipe.data.reserved == held_out
    assert (recipe.held_out is not None) == (held_out > 0)
    assert recipe.max_steps * recipe.batch_size <= MOST_SHOWN * (count - held_out)
    if recipe.held_out is not None:
        assert (recipe.held_out.split, recipe.held_out.path) == ("test", recipe.data.path)


def test_a_folder_is_like_its_archive(archive: Archive, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive()) as file:
        file.extractall(tmp_path / "there")
    (tmp_path / "there" / "__MACOSX" / "pets" / "cat" / "0.png").unlink()
    assert loaded(tmp_path / "there").num_classes == 2


def test_an_archive_of_macos_has_the_names_that_its_table_has(tmp_path: Path) -> None:
    names = {f"{['Bäume', 'Häuser'][place % 2]}/{place}.png": each for place, each in enumerate(icons().values())}
    (path := tmp_path / "places.zip").write_bytes(zipped_by_finder(names))
    (table := tmp_path / "places.csv").write_text(
        "\n".join(["file_name,age", *(f"{name},{place}" for place, name in enumerate(names))]), encoding="utf-8"
    )
    recipe = loaded(path, table)
    source = open_with_conditions(recipe)
    assert source.classes == ("Bäume", "Häuser")
    assert {item.name: item.values["age"] for item in source.items} == {name: str(i) for i, name in enumerate(names)}


def test_too_few_pictures_are_refused_with_advice(archive: Archive) -> None:
    with pytest.raises(RecipeError, match=f"holds 49 pictures: {LEAST} is the least"):
        look_at(archive(49))


def test_the_columns_of_a_table_are_conditions(archive: Archive, tmp_path: Path) -> None:
    path, table = archive(folder=lambda index: ""), tmp_path / "pets.csv"
    rows = [f"{i}.png,{['red', 'black'][i % 2]},{i / 10},{i},same" for i in range(60)]
    table.write_text("\n".join(["file_name,fur,age,Nickname,kind", *rows]), encoding="utf-8")
    recipe = loaded(path, table)
    assert recipe.conditions == {
        "fur": Choice(("black", "red"), null=True),
        "age": Number(low=0, high=6, null=True),
    }
    assert (recipe.examples, recipe.num_classes) == (60, None)
    assert look_at(path, table).left_out == {
        "Nickname": "a condition's name has a-z, 0-9 and _ only",
        "kind": "it has 1 different values, and a choice 2 to 64",
    }


def test_the_labels_of_a_table_are_classes_in_the_order_of_their_numbers(archive: Archive, tmp_path: Path) -> None:
    table = tmp_path / "pets.jsonl"
    rows = [json.dumps({"file_name": f"{i}.png", "label": str(2 + i % 9)}) for i in range(60)]
    table.write_text("\n".join(rows), encoding="utf-8")
    recipe = loaded(archive(folder=lambda index: ""), table)
    assert recipe.data.classes == tuple(map(str, range(2, 11)))


def test_values_of_json_are_choices_by_their_text(archive: Archive, tmp_path: Path) -> None:
    path, table = archive(folder=lambda index: ""), tmp_path / "pets.jsonl"
    rows = [json.dumps({"file_name": f"{i}.png", "tame": i % 2 == 0, "legs": 3 + i % 2}) for i in range(60)]
    table.write_text("\n".join(rows), encoding="utf-8")
    recipe = loaded(path, table)
    assert recipe.conditions == {"tame": Choice(("false", "true"), null=True), "legs": Choice(("3", "4"), null=True)}
    assert recipe.conditions["tame"].read(True) == "true"


@pytest.mark.slow
def test_one_command_makes_a_model_and_resumes(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ["network.channels=16", "network.head_channels=16", "image_size=16", "max_steps=3", "save_every=2"]
    arguments = ["train", str(archive()), "--preset", "taste", *(word for each in small for word in ("--set", each))]

    def difuso(*further: str) -> None:
        CliRunner().invoke(cli.app, [*arguments, *further], catch_exceptions=False)

    difuso("--dry-run")
    assert not (tmp_path / "var").exists()
    difuso()
    run = tmp_path / "var" / "runs" / "my-pets"
    config = load_checkpoint(run / "model").config
    assert (config.classes, config.training["steps"]) == (("cat", "dog"), 3)
    made = (run / "recipe.toml").read_text()
    assert re.match(r"# difuso train '.*my pets\.zip' --preset taste\n", made)
    difuso("--set", "max_steps=5")
    assert load_checkpoint(run / "model").config.training["steps"] == 5
    assert (run / "recipe.toml").read_text() == made
    with pytest.raises(UserError, match="was made by another command"):
        difuso("--preset", "good")
