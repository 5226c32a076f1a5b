"""Images that a run keeps from training: what is measured on them, and that measuring changes nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from difuso.training.errors import RecipeError
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.journal import read_metrics
from difuso.training.run.run import train
from difuso.training.run.state import load_state
from tests.icons import icons

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = (
    *("image_size=8", "batch_size=4", "precision=float32", "network.channels=8", "network.channel_mult=[1]"),
    *("network.groups=4", "network.head_channels=8", "network.num_classes=3", "label_drop=0.2", "defaults.steps=2"),
    *("log_every=2", "save_every=3", "sheet_every=4", "data.source=folder", "data.reserved=6", "ema_decay=0.5"),
)
HELD_OUT = "held_out.split=test"


@pytest.fixture
def recipe(tmp_path: Path) -> Callable[..., Recipe]:
    """A recipe with changes, for thirty icons of three classes, of which six are reserved."""
    for name, content in icons(30).items():
        path = tmp_path / "icons" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return lambda *changes: load_recipe("smoke", [*TINY, f"data.path={tmp_path / 'icons'}", *changes])


def losses(out: Path) -> dict[int, float]:
    entries = read_metrics(out / "metrics.jsonl")
    return {entry["step"]: entry["held_out/loss"] for entry in entries if "held_out/loss" in entry}


def test_the_loss_on_held_out_images_is_measured_at_each_save_and_sheet_and_changes_no_weight(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    with_them, without = tmp_path / "with", tmp_path / "without"
    train(recipe(HELD_OUT, "max_steps=6"), with_them)
    train(recipe("max_steps=6"), without)
    found = losses(with_them)
    assert list(found) == [3, 4, 6]
    assert all(0 < loss < 2 for loss in found.values())
    assert len({*found.values()}) == 3, "each is of other weights"
    assert losses(without) == {}
    weights, same = ((load_state(out) or {})["trainer"]["network"] for out in (with_them, without))
    assert all(torch.equal(same[name], tensor) for name, tensor in weights.items())
    board = EventAccumulator(str(with_them / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("held_out/loss")] == [3, 4, 6]
    train(recipe(HELD_OUT, "max_steps=3"), tmp_path / "again")
    train(recipe(HELD_OUT, "max_steps=6"), tmp_path / "again")
    assert losses(tmp_path / "again") == found, "timesteps and noise are the same each time"


def test_the_loss_is_that_of_a_network_that_sees_class_and_conditions(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    """Of a table that says nothing of the images held out, too."""
    names = sorted(path.relative_to(tmp_path / "icons").as_posix() for path in (tmp_path / "icons").rglob("*.png"))
    (tmp_path / "rows.csv").write_text(f"file_name,age\n{names[0]},3\n{names[1]},4\n")
    conditions = ('conditions.age={type="number", low=0, high=9, null=true}', "condition_drop=0.5")
    train(recipe(HELD_OUT, "max_steps=3", f"data.table={tmp_path / 'rows.csv'}", *conditions), tmp_path / "run")
    assert losses(tmp_path / "run").keys() == {3}


def test_a_network_that_learns_from_another_cannot_have_them(recipe: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match="held_out are for classifiers, and networks that learn images from noise"):
        recipe(HELD_OUT, "loss=distillation", "init=checkpoints/faces64")


def test_each_sheet_comes_with_the_training_images_nearest_to_its_samples(
    tmp_path: Path, recipe: Callable[..., Recipe]
) -> None:
    out = tmp_path / "run"
    train(recipe(HELD_OUT, "max_steps=6", "nearest=true"), out)
    assert [path.name for path in sorted((out / "nearest").iterdir())] == ["00000004.png", "00000006.png"]
    with Image.open(out / "nearest/00000006.png") as pairs, Image.open(out / "model/sheet.png") as sheet:
        rows = np.asarray(pairs)[:160].reshape(16, 10, 82, 3)
        samples = np.asarray(sheet)[:80].reshape(8, 10, 82, 3)
    assert np.array_equal(rows[::2], samples)
    images = np.fromfile(out / "data/images.bytes", np.uint8).reshape(24, 8, 8, 3)
    assert any(np.array_equal(rows[1, 2:, 2:10], image) for image in images)
    shares = {entry["step"]: entry["copies"] for entry in read_metrics(out / "metrics.jsonl") if "copies" in entry}
    assert shares.keys() == {4, 6}
    card = (out / "model/README.md").read_text()
    assert f"| copies | {100 * shares[6]:.0f} % of the samples are nearer to a training image than 95 %" in card


def test_a_network_that_sees_images_has_no_nearest_ones() -> None:
    with pytest.raises(RecipeError, match="nearest is for networks that see no images"):
        load_recipe("faces64to128", ["nearest=true"])
