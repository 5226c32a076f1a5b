"""`difuso evaluate conditions`: the model is asked for what real images show, and judged."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from difuso import cli
from difuso.commands import evaluate_quality
from difuso.drawing.image_sources import ImageConditions, ImageSources, conditions_of, real_images_of
from difuso.errors import UserError
from difuso.evaluation import judge
from difuso.evaluation.image_sets import ImageSet, from_array, from_path
from difuso.model import load_checkpoint, save_checkpoint
from difuso.model.images import to_uint8
from difuso.model.networks.build import build_network
from difuso.model.sampling import networks_of, sample
from difuso.training.data.images import ImageArray
from difuso.training.recipe_reading import load_recipe
from tests.colours import Colours
from tests.small_models import awake
from tests.strangers import PACKAGE, on_the_path, write_package

pytestmark = pytest.mark.usefixtures("one_thread")

COLOURS = ("red", "green", "blue")
RECIPE = """
name = "lights"
image_size = 16
prediction = "v"
condition_drop = 0.1
drop_all = 0.1
network = { channels = 8, channel_mult = [1], groups = 4, head_channels = 8 }
conditions.colour = { type = "choice", values = ["red", "green", "blue"], null = true }
conditions.level = { type = "number", low = 0, high = 200, null = true }
schedule = { type = "cosine" }
defaults = { sampler = "ddim", steps = 2, spacing = "trailing" }
data = { source = "folder", path = "PATH/lights", table = "PATH/lights.csv" }
"""


def light(given: Mapping[str, Any], noise: int = 0) -> ImageArray:
    image = np.random.default_rng(noise).integers(0, 60, (16, 16, 3), dtype=np.uint8)
    image[4:12, 4:12, COLOURS.index(given["colour"])] = 55 + given["level"]
    return image


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of 300 squares of light with a table, and a models folder with a network of random weights."""
    monkeypatch.setattr(judge, "STEPS", 60)
    monkeypatch.setattr(judge, "WIDTHS", (16, 16, 16, 16))
    rng, path = np.random.default_rng(0), tmp_path / "lights.toml"
    (tmp_path / "lights").mkdir()
    with (tmp_path / "lights.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["file_name", "colour", "level"])
        table.writeheader()
        for i in range(300):
            given = {"colour": COLOURS[rng.integers(3)], "level": int(rng.integers(200))}
            Image.fromarray(light(given, i)).save(tmp_path / f"lights/{i}.png")
            table.writerow({"file_name": f"{i}.png", **given})
    path.write_text(RECIPE.replace("PATH", str(tmp_path)), encoding="utf-8")
    made = load_recipe(str(path))
    save_checkpoint(tmp_path / "models" / "lights", made.model_config({}), awake(build_network(made.network)))
    return path


def run(recipe: Path, *arguments: object, command: str = "conditions") -> str:
    where = ("--models-dir", recipe.parent / "models", "--out", recipe.parent / "out")
    data = ("--data" if command == "conditions" else "--conditions", recipe)
    words = ["evaluate", command, *map(str, (*data, *where, *arguments))]
    result = CliRunner().invoke(cli.app, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def obedient(sources: ImageSources, title: str, settings: Any, count: int, given: ImageConditions) -> ImageSet:
    """Images that show the brightness of their condition, and are red."""
    shown = [light({**each, "colour": "red"}, 1000 + i) for i, each in enumerate(given.conditions)]
    return from_array("lights", np.stack(shown))


def test_what_is_there_is_distinguished_from_what_is_not(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageSources, "drawn", obedient)
    output = run(recipe, "--images", 60)
    found = json.loads((recipe.parent / "out/conditions.json").read_text())["conditions"]
    assert found["colour"]["there"]["value"] == pytest.approx(1 / 3, abs=0.05)  # of three colours one is red
    assert found["level"]["there"]["value"] > 0.7
    assert found["colour"]["real"]["value"] > 0.9
    assert (found["colour"]["there"]["images"], found["colour"]["real"]["images"]) == (60, 30)
    assert "asked and there" in output
    with Image.open(recipe.parent / "out/conditions.png") as sheet:
        assert sheet.width > 8 * 18  # mistakes are written below the images


def test_what_a_real_image_does_not_show_is_not_counted(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A judge that never sees blue cannot say whether an image shows it. The ceiling shows it."""
    answers = judge.Judge.answers

    def colour_blind(self: judge.Judge, images: ImageArray) -> judge.Answers:
        seen = answers(self, images)
        return {**seen, "colour": np.where(seen["colour"] == COLOURS.index("blue"), 0, seen["colour"])}

    monkeypatch.setattr(judge.Judge, "answers", colour_blind)
    monkeypatch.setattr(ImageSources, "drawn", obedient)
    run(recipe, "--images", 60)
    found = json.loads((recipe.parent / "out/conditions.json").read_text())["conditions"]["colour"]
    assert found["there"]["value"] == pytest.approx(1 / 2, abs=0.05)  # of two colours one is red
    assert found["real"]["value"] == pytest.approx(2 / 3, abs=0.1)
    assert 35 < found["there"]["images"] < 50


def test_the_images_whose_quality_is_measured_have_the_conditions_of_real_ones(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is the image that the plain loop draws from its seed and its conditions, up to a grey level."""
    monkeypatch.setattr(evaluate_quality, "EfficientNetLite0", lambda device: Colours())
    run(recipe, "ddim:3", "--reference", recipe, "--images", 40, "--seed", 5, command="quality")
    facts = json.loads((recipe.parent / "out/quality.json").read_text())
    assert facts["conditions"] == str(recipe)
    (given,) = [row["drawn"]["conditions"] for row in facts["rows"]]
    held_out = real_images_of(load_recipe(str(recipe)), recipe.parent / "again", split="test", faces=1)
    of_real = conditions_of(load_recipe(str(recipe)), held_out, np.arange(30)).conditions
    assert given == {name: [each[name] for each in (*of_real, *of_real[:10])] for name in ("colour", "level")}
    (file,) = (recipe.parent / "out/pictures").glob("lights-*/ddim-trailing-3-*.npz")
    model = load_checkpoint(recipe.parent / "models/lights")
    plan = model.config.plan(model.schedule, steps=3)
    for i, (each, drawn) in enumerate(zip(of_real[:9], from_path(file).load(), strict=False)):
        plain = sample(plan, **networks_of(model, conditions=each), shape=(3, 16, 16), seeds=[5 + i])
        assert np.abs(drawn.astype(int) - to_uint8(plain)[0].numpy()).max() <= 1


READER = f"""
name = "reader"
image_size = 8
prediction = "v"
drop_all = 0.1
network = {{ type = "{PACKAGE}.nets:Attentive", args = {{ text = 5 }}, size_multiple = 4 }}
conditions.text = {{ type = "sequence", width = 5, most = 4, null = true }}
schedule = {{ type = "cosine" }}
defaults = {{ sampler = "ddim", steps = 2, spacing = "trailing" }}
data = {{ source = "{PACKAGE}.training:described", count = 80 }}
"""


def test_a_drawn_image_has_the_sequence_of_a_real_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluate_quality, "EfficientNetLite0", lambda device: Colours())
    monkeypatch.setenv("DIFUSO_NETWORKS", PACKAGE)
    path = tmp_path / "reader.toml"
    path.write_text(READER, encoding="utf-8")
    with on_the_path(write_package(tmp_path / "lab")):
        recipe = load_recipe(str(path), networks=[PACKAGE])
        save_checkpoint(
            tmp_path / "models" / "reader",
            recipe.model_config({}),
            awake(build_network(recipe.network)),
            dtype=torch.float32,
        )
        run(path, "ddim:3", "--reference", path, "--images", 30, "--seed", 5, command="quality")
        (file,) = (tmp_path / "out/pictures").glob("reader-*/ddim-trailing-3-*.npz")
        held_out = real_images_of(recipe, tmp_path / "again", split="test", faces=1)
        padded, lengths = held_out.columns["text"]
        rows = np.flatnonzero(lengths)[:3]
        assert len({int(lengths[row]) for row in rows}) > 1
        model = load_checkpoint(tmp_path / "models/reader", networks=[PACKAGE])
        plan = model.config.plan(model.schedule, steps=3)
        for i, (row, drawn) in enumerate(zip(rows, from_path(file).load(), strict=False)):
            text = padded[row, : lengths[row]]
            plain = sample(plan, **networks_of(model, conditions={"text": text}), shape=(3, 8, 8), seeds=[5 + i])
            assert np.abs(drawn.astype(int) - to_uint8(plain)[0].numpy()).max() <= 1


def test_real_images_have_the_conditions_that_the_table_has_now(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table may be corrected between two measurements, and another recipe be measured in the same folder."""
    monkeypatch.setattr(evaluate_quality, "EfficientNetLite0", lambda device: Colours())
    table, out = recipe.with_suffix(".csv"), recipe.parent / "out"
    colours = []
    for old in ("red", "green"):
        run(recipe, "ddim:2", "--reference", recipe, "--images", 30, command="quality")
        (row,) = json.loads((out / "quality.json").read_text())["rows"]
        colours.append(set(row["drawn"]["conditions"]["colour"]))
        table.write_text(table.read_text().replace(old, "blue"))
    assert colours == [{"red", "green", "blue"}, {"green", "blue"}]
    assert not list(out.glob(".real-*"))


def test_recipes_that_do_not_fit_are_refused_before_anything_is_read(recipe: Path) -> None:
    for name, message in (("faces64", "64x64, lights of 16x16"), ("smoke", "has no classes, choices or")):
        with pytest.raises(UserError, match=message):
            run(recipe, "--data", name)
    assert not (recipe.parent / "out").exists()
