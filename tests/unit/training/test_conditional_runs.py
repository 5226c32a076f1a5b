"""Images have the conditions that a table, a set or a drawing says, and in training sometimes only a part of them."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from difuso.model.folders.config_json import config_from_json
from difuso.model.png import PNG_KEY
from difuso.training.data.batches import Batches, Draws, Seeds, network_inputs
from difuso.training.data.conditions import open_with_conditions, values_at
from difuso.training.data.dataset import Dataset, first_images, load, scan
from difuso.training.errors import RecipeError
from difuso.training.objective.objectives import timesteps_of
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.journal import GAP, LINE
from difuso.training.run.run import train
from difuso.training.run.trainer import Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
PLAIN = (
    *("image_size=8", "batch_size=4", "precision=float32", "max_steps=4", "warmup_steps=1", "defaults.steps=2"),
    *("network.channels=8", "network.channel_mult=[1]", "network.groups=4", "network.head_channels=8", "seed=3"),
)
TINY = (
    *PLAIN,
    *('conditions.age.type="number"', "conditions.age.high=100", 'conditions.age.unit="years"'),
    *(
        'conditions.glasses.type="choice"',
        'conditions.glasses.values=["none", "round"]',
        "conditions.glasses.null=true",
    ),
    *('conditions.style.type="vector"', "conditions.style.size=2", "conditions.style.null=true"),
    "condition_drop=0.1",
)
ROWS: list[dict[str, Any]] = [
    {"file_name": f"{i}.png", "age": 10 * i, "glasses": ["none", "round"][i % 2], "style": f"{i},-0.5"}
    for i in range(8)
]


def conditional(folder: Path, *changes: str) -> Recipe:
    where = ("data.source=folder", f"data.path={folder / 'faces'}", f"data.table={folder / 'about.csv'}")
    return load_recipe("smoke", [*where, *TINY, *changes])


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    """Eight images, of which image i is of level i, and a table that describes them in another order."""
    (tmp_path / "faces").mkdir()
    for i in range(8):
        Image.new("RGB", (8, 8), (i, i, i)).save(tmp_path / "faces" / f"{i}.png")
    write_csv(tmp_path / "about.csv", ROWS[::-1])
    return tmp_path


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def scanned(recipe: Recipe, folder: Path) -> Dataset:
    scan(recipe, folder)
    return load(recipe, folder)


def columns(found: Dataset) -> dict[str, tuple[list[Any], list[bool]]]:
    return {name: (values.tolist(), known.tolist()) for name, (values, known) in found.columns.items()}


EVERYTHING = {
    "age": ([10.0 * i for i in range(8)], [True] * 8),
    "glasses": ([0, 1] * 4, [True] * 8),
    "style": ([[float(i), -0.5] for i in range(8)], [True] * 8),
}


def test_csv_has_a_row_for_each_image(faces: Path) -> None:
    found = scanned(conditional(faces), faces / "data")
    assert columns(found) == EVERYTHING
    assert found.images[:, 0, 0, 0].tolist() == list(range(8))
    assert json.loads((faces / "data" / "report.json").read_text())["conditions"] == {
        "age": 8,
        "glasses": 8,
        "style": 8,
    }
    assert columns(first_images(conditional(faces)))["age"] == ([0.0, 10.0, 20.0, 30.0], [True] * 4)


def test_json_lines_have_lists_and_numbers_and_may_leave_out_what_may_be_null(faces: Path) -> None:
    rows = [{**row, "style": [row["age"] / 10, -0.5]} for row in ROWS]
    rows[2]["glasses"] = None
    del rows[5]["style"]
    (faces / "about.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n", encoding="utf-8")
    found = columns(scanned(conditional(faces, f"data.table={faces / 'about.jsonl'}"), faces / "data"))
    assert found["age"] == EVERYTHING["age"]
    assert found["glasses"][1] == [i != 2 for i in range(8)]
    assert found["style"][1] == [i != 5 for i in range(8)]


def test_a_table_names_the_classes(faces: Path) -> None:
    write_csv(faces / "about.csv", [{**row, "label": ["dog", "cat"][i // 4]} for i, row in enumerate(ROWS)])
    labelled = ("network.num_classes=2", "label_drop=0.1")
    found = scanned(conditional(faces, *labelled), faces / "sorted")
    assert (found.classes, found.labels is not None and found.labels.tolist()) == (("cat", "dog"), [1] * 4 + [0] * 4)
    found = scanned(conditional(faces, *labelled, 'data.classes=["dog", "cat"]'), faces / "named")
    assert (found.classes, found.labels is not None and found.labels.tolist()) == (("dog", "cat"), [0] * 4 + [1] * 4)


def test_folders_are_no_classes_where_a_table_has_labels(faces: Path) -> None:
    for i in range(8):
        (faces / "faces" / f"in-{i % 3}").mkdir(exist_ok=True)
        (faces / "faces" / f"{i}.png").rename(faces / "faces" / f"in-{i % 3}" / f"{i}.png")
    rows = [{**row, "file_name": f"in-{i % 3}/{i}.png", "label": "01"[i // 4]} for i, row in enumerate(ROWS)]
    recipe = conditional(faces, "network.num_classes=2", "label_drop=0.1", 'data.classes=["cat", "dog"]')
    write_csv(faces / "about.csv", rows)
    found = scanned(recipe, faces / "data")
    assert found.labels is not None
    assert (found.classes, sorted(found.labels.tolist())) == (("cat", "dog"), [0] * 4 + [1] * 4)
    write_csv(faces / "about.csv", [{**rows[0], "label": ""}, *rows[1:]])
    with pytest.raises(RecipeError, match=r"in-0/0\.png has no class: give it a label in the table"):
        scan(recipe, faces / "again")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"age": "old"}, r"about\.csv, row 3, column age must be a number from 0 to 100 years, not 'old'"),
        ({"age": ""}, r"row 3, column age is empty: fill it, or declare the condition with null = true"),
        ({"glasses": "square"}, r"row 3, column glasses must be one of none, round, not 'square'"),
        ({"file_name": ""}, r"about\.csv, row 3: file_name is missing"),
        ({"file_name": "0.png"}, r"about\.csv, row 2 and row 3 have the same file_name, 0\.png"),
        ({"file_name": "else/1.png"}, r"without a row for 1\.png, column age is empty"),
        ({"more": "cells"}, r"about\.csv, row 3: there are more cells than columns"),
    ],
)
def test_an_error_names_row_and_column(faces: Path, change: dict[Any, Any], message: str) -> None:
    rows = [{**row, **change} if i == 1 else row for i, row in enumerate(ROWS)]
    lines = [
        ",".join([*(f'"{row[name]}"' for name in ROWS[0]), *([row["more"]] if "more" in row else [])]) for row in rows
    ]
    (faces / "about.csv").write_text("\n".join([",".join(ROWS[0]), *lines]), encoding="utf-8")
    with pytest.raises(RecipeError, match=message):
        scan(conditional(faces), faces / "data")


def test_tables_that_fit_no_image_are_refused(faces: Path) -> None:
    optional = ("conditions.age.null=true",)
    write_csv(faces / "about.csv", [{**row, "file_name": f"faces/{row['file_name']}"} for row in ROWS])
    with pytest.raises(RecipeError, match=r"no row of .* a path below data\.path, unlike faces/0\.png"):
        scan(conditional(faces, *optional), faces / "data")
    write_csv(faces / "about.csv", [{"file_name": row["file_name"], "Age": row["age"]} for row in ROWS])
    with pytest.raises(RecipeError, match="no column for the condition age: their columns are file_name, Age"):
        scan(conditional(faces), faces / "data")
    (faces / "about.jsonl").write_text('{"file_name": "0.png"}\n[1]\n', encoding="utf-8")
    with pytest.raises(RecipeError, match=r"about\.jsonl, line 2 must be an object"):
        scan(conditional(faces, f"data.table={faces / 'about.jsonl'}"), faces / "data")
    with pytest.raises(RecipeError, match=r"nosuch\.csv cannot be read"):
        scan(conditional(faces, f"data.table={faces / 'nosuch.csv'}"), faces / "data")


def test_columns_of_a_dataset_are_conditions(tmp_path: Path) -> None:
    """Classes of a dataset have names."""
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "age": datasets.Value("int32"),
            "glasses": datasets.ClassLabel(names=["none", "round"]),
            "style": datasets.Sequence(datasets.Value("float32")),
        }
    )
    content = {
        "image": [Image.new("RGB", (8, 8), (i, i, i)) for i in range(8)],
        "age": [10 * i for i in range(8)],
        "glasses": [i % 2 for i in range(8)],
        "style": [[float(i), -0.5] for i in range(8)],
    }
    datasets.Dataset.from_dict(content, features=features).save_to_disk(str(tmp_path / "set"))
    recipe = load_recipe("smoke", ["data.source=huggingface", f"data.path={tmp_path / 'set'}", *TINY])
    assert columns(scanned(recipe, tmp_path / "data")) == EVERYTHING


def test_each_condition_is_left_out_by_its_own_chance(faces: Path) -> None:
    """The shares lie within four standard errors; together the two are left out as if by chance, or all at once."""
    recipe = conditional(faces, "condition_drop=0.3", "drop_all=0.2", "keep_all=0.3", "batch_size=8")
    draws, timesteps = Draws(recipe, Seeds(0), CPU), timesteps_of(recipe, recipe.schedule.build())
    absent = torch.cat([draws.next(timesteps).dropped for _ in range(500)]).double()
    age, glasses, style = absent.T
    assert not age.any()
    for share, expected in (
        (glasses, 0.2 + 0.5 * 0.3),
        (style, 0.2 + 0.5 * 0.3),
        (glasses * style, 0.2 + 0.5 * 0.3 * 0.3),
    ):
        assert abs(float(share.mean()) - expected) < 4 * (expected * (1 - expected) / len(absent)) ** 0.5


def test_what_is_left_out_does_not_reach_the_network(faces: Path) -> None:
    recipe = conditional(faces, "condition_drop=0.4")
    draws, timesteps = Draws(recipe, Seeds(0), CPU), timesteps_of(recipe, recipe.schedule.build())
    batch = next(iter(Batches(scanned(recipe, faces / "data"), 4, seed=0)))
    drawn = draws.next(timesteps)
    assert drawn.dropped.any()
    vector = network_inputs(recipe, batch, drawn, slice(None), CPU)[1]["vector"]
    for row, (level, (_, glasses, style)) in enumerate(
        zip(batch.pixels[:, 0, 0, 0].tolist(), drawn.dropped.tolist(), strict=True)
    ):
        shown = torch.tensor([2 * level / 10 - 1, 0])  # the age of image i is 10 i of 100 years
        kind = [0, 0, 1] if glasses else [1 - level % 2, level % 2, 0]
        assert torch.allclose(vector[row], torch.tensor([*shown, *kind, *([0, 0, 1] if style else [level, -0.5, 0])]))


def test_a_run_ends_with_a_model_that_declares_its_conditions_and_a_sheet_that_names_them(faces: Path) -> None:
    recipe = conditional(faces, "conditions.age.null=true", "drop_all=0.1", "log_every=2", "sheet_every=4")
    train(recipe, faces / "run")
    config = config_from_json(json.loads((faces / "run" / "model" / "config.json").read_text()))
    assert config.conditions == recipe.conditions
    assert config.training["recipe"] == json.loads(json.dumps(recipe.record))
    with Image.open(faces / "run" / "sheets" / "00000004.png") as sheet:
        assert sheet.height == 8 * (8 + 2 * LINE + GAP) + GAP
        text = np.asarray(sheet.convert("L"))[GAP + 8 :, :]
    lines = [text[row * (8 + 2 * LINE + GAP) :][: 2 * LINE] for row in range(8)]
    assert [bool((line < 128).any()) for line in lines] == [True] * 7 + [False]  # the last row has no conditions
    with Image.open(faces / "run" / "model" / "sheet.png") as sheet:
        assert sheet.size == 2 * (8 * (8 + GAP) + GAP,)
        samples = json.loads(sheet.info[PNG_KEY])["samples"]
    assert all(each["conditions"].keys() == recipe.conditions.keys() for each in samples[:56])
    assert samples[56:] == [{"seed": seed} for seed in range(56, 64)]


def test_a_model_carries_the_values_of_some_images_that_have_all_choices_and_numbers(faces: Path) -> None:
    rows = [{**row, "glasses": None} if index % 3 == 0 else {**row, "style": None} for index, row in enumerate(ROWS)]
    write_csv(faces / "about.csv", rows)
    train(conditional(faces, "examples=4"), faces / "run")
    config = config_from_json(json.loads((faces / "run" / "model" / "config.json").read_text()))
    whole = {(10.0, "round"), (20.0, "none"), (40.0, "none"), (50.0, "round"), (70.0, "round")}
    assert list(config.examples) == ["age", "glasses"]
    found = list(zip(*config.examples.values(), strict=True))
    assert len(found) == len(set(found)) == 4
    assert set(found) < whole
    write_csv(faces / "about.csv", [{**row, "glasses": None} for row in ROWS])
    with pytest.raises(RecipeError, match="examples need images that have all choices and numbers"):
        train(conditional(faces, "examples=4"), faces / "none")


def test_maps_are_turned_with_their_images_and_not_mixed(faces: Path) -> None:
    """Grey maps and maps with a palette hold indices, and of four pixels that become one, one is taken."""
    (faces / "layouts").mkdir()
    levels = np.arange(8)
    for i in range(8):
        indices = np.zeros((16, 16), np.uint8)
        indices[:, : 2 * i] = 2
        image = Image.fromarray(indices)
        if i % 2:
            image = image.convert("P")
            image.putdata(indices.flatten().tolist())
        image.save(faces / "layouts" / f"{i}.png")
    layout = ('conditions.layout.type="map"', 'conditions.layout.values=["sky", "sea", "road"]')
    recipe = conditional(
        faces, *layout, f"data.condition_paths.layout={faces / 'layouts'}", "data.flip=true", "batch_size=7"
    )
    found = scanned(recipe, faces / "data")
    assert found.held.tolist() == [0]
    draws, timesteps = Draws(recipe, Seeds(1), CPU), timesteps_of(recipe, recipe.schedule.build())
    batch, drawn = next(iter(Batches(found, 7, seed=0))), draws.next(timesteps)
    assert 0 < int(drawn.symmetries.sum()) < 7
    planes = network_inputs(recipe, batch, drawn, slice(None), CPU)[1]["planes"]
    for row, (level, mirrored) in enumerate(
        zip(batch.pixels[:, 0, 0, 0].tolist(), drawn.symmetries.tolist(), strict=True)
    ):
        road = torch.from_numpy((levels[::-1] if mirrored else levels) < level).expand(8, 8).float()
        assert torch.equal(planes[row], torch.stack([1 - road, torch.zeros(8, 8), road]))
    next(Trainer(recipe, Batches(found, 7, seed=0)).steps())
    Image.new("L", (8, 8), 3).save(faces / "layouts" / "4.png")
    items = {item.name: item.reason for item in open_with_conditions(recipe).items}
    assert items["4.png"] == "condition layout: ValueError: it has index 3, and the map has 3 values, from index 0 on"
    assert not items["5.png"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            ("condition_drop=0",),
            r"the conditions .*glasses.* may be left out: set condition_drop, say 0\.1, or drop_all",
        ),
        (("drop_all=0.5", "keep_all=0.5"), "drop_all and keep_all must be less than 1 together, not 1"),
        (("data.condition_paths={glasses = 'x'}",), r"condition_paths must name files for .*: none"),
        (("data.table=''",), r"conditions need values: name their table, data\.table, for folder"),
        (("data.source=npz",), r"data\.table are for the sources folder and zip"),
        (("data.table=about.txt",), r"data\.table must be a file \.csv or \.jsonl"),
        (('network={type = "paper_unet"}',), r"network\.type paper_unet takes no conditions"),
        (
            ('network={type = "dit"}', "conditions.layout.type=map", 'conditions.layout.values=["sky", "sea"]'),
            r"network\.type dit takes no maps and images",
        ),
        (("examples=1", "network.num_classes=2", "network.null_class=false"), "examples are of choices and numbers"),
    ],
)
def test_recipes_that_contradict_themselves_are_refused(faces: Path, changes: tuple[str, ...], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        scan(conditional(faces, *changes), faces / "data")


def test_a_number_comes_back_as_it_was_written(faces: Path) -> None:
    """It is kept in float32, in which 12.3 is a little more, and more than the highest is refused."""
    ages = ["0.1", "12.3", "7", "3.3", "0", "1e-3", "11.123457", "6.66"]
    write_csv(faces / "about.csv", [{**row, "age": age} for row, age in zip(ROWS, ages, strict=True)])
    recipe = conditional(faces, "conditions.age.high=12.3")
    found = scanned(recipe, faces / "data")
    back = [values_at(recipe.conditions, found.columns, row)["age"] for row in range(8)]
    assert back == list(map(float, ages))
    highest = conditional(faces, "conditions.age.high=12.300000001").conditions
    assert values_at(highest, found.columns, 1)["age"] == 12.3
