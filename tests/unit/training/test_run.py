"""What a run leaves in its folder, how it ends, and how it goes on."""

from __future__ import annotations

import dataclasses
import gc
import json
import re
import shutil
import signal
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from difuso.jobs.model_folders import find_document, first_sentence
from difuso.model import load_checkpoint, networks_of, sample
from difuso.model.folders.config import SamplerDefaults, ScheduleConfig
from difuso.model.networks.configs import DiTConfig
from difuso.model.png import PNG_KEY
from difuso.training.data.batches import Batches
from difuso.training.data.dataset import first_images
from difuso.training.errors import Diverged, RecipeError
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.run import run as runs
from difuso.training.run.dry_run import call_flops
from difuso.training.run.journal import read_metrics
from difuso.training.run.processes import ALONE, Processes
from difuso.training.run.run import train
from difuso.training.run.state import STATE, alone_in, load_state, save_state
from difuso.training.run.trainer import MAX_BAD_STEPS, Trainer

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = (
    "image_size=8",
    "batch_size=4",
    "precision=float32",
    "network.channels=8",
    "network.channel_mult=[1]",
    "network.groups=4",
    "network.head_channels=8",
    "defaults.steps=2",
    "log_every=2",
    "data.source=npz",
)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Recipe]:
    """A recipe with changes, for ten random images of five classes."""
    path = tmp_path / "images.npz"
    np.savez(path, np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8), np.arange(10) % 5)
    return lambda *changes: load_recipe("smoke", [*TINY, f"data.path={path}", *changes])


def saved(out: Path) -> Any:
    state = load_state(out)
    assert state is not None
    return state["trainer"]


def test_a_run_leaves_a_model_that_loads_and_records_that_read(tmp_path: Path, tiny: Callable[..., Recipe]) -> None:
    out = tmp_path / "run"
    classes = ("network.num_classes=5", "label_drop=0.1", 'data.classes=["a", "b", "c", "d", "e"]')
    bound = ("loss=hybrid", "variance=learned_range", "network.out_channels=6")
    changes = ("save_every=4", "sheet_every=4", 'labels.es.label={name="letra", values={a="á"}}', *classes, *bound)
    assert train(tiny("max_steps=6", *changes), out) == 6
    checkpoint = load_checkpoint(out / "model")
    assert checkpoint.config.variance == "learned_range"
    assert checkpoint.config.classes == ("a", "b", "c", "d", "e")
    assert checkpoint.config.training["steps"] == 6
    assert "labels" not in checkpoint.config.training["recipe"], "other words make no other version"
    words = json.loads((out / "model/labels.json").read_text())
    assert words == {"es": {"label": {"name": "letra", "values": {"a": "á"}}}}
    assert checkpoint.config.training["images"] == 24
    assert checkpoint.config.training["training_images"] == 10
    average = saved(out)["ema"]["network"]
    for name, tensor in checkpoint.network.state_dict().items():
        assert torch.allclose(tensor, average[name], atol=1e-3)  # saved as float16
    entries = read_metrics(out / "metrics.jsonl")
    assert [entry["step"] for entry in entries] == [2, 4, 6]
    assert entries[0].keys() >= {"loss", "vlb", "grad_norm", "images_per_second", "lr", "skipped"}
    assert any(f"loss/q{quarter}" in entries[-1] for quarter in range(1, 5))
    board = EventAccumulator(str(out / "tensorboard")).Reload()
    assert [event.step for event in board.Scalars("loss")] == [2, 4, 6]
    sheets = sorted((out / "sheets").iterdir())
    assert [path.name for path in sheets] == ["00000004.png", "00000006.png"]
    with Image.open(sheets[0]) as sheet:
        assert sheet.size == (82, 82)
    assert (out / "losses.png").stat().st_size > 1000
    assert all(find_document(out / "model", name) for name in ("card", "sheet", "losses"))
    assert (
        first_sentence(out / "model") == "Images of 8 x 8 pixels of 5 classes, from a network with 12,614 parameters."
    )
    with Image.open(out / "model/sheet.png") as sheet, Image.open(sheets[-1]) as last:
        assert np.array_equal(np.asarray(sheet), np.asarray(last)), "without conditions there is no text below samples"
        samples = json.loads(sheet.info[PNG_KEY])["samples"]
    assert samples == [{"seed": seed, "label": seed % 5} for seed in range(64)]
    card = (out / "model/README.md").read_text(encoding="utf-8")
    assert "| data | 10 images, source `npz` |" in card
    assert "| training | 6 steps of 4, 24 images |" in card
    recipe = json.loads((out / "recipe.json").read_text())
    assert (recipe["label_drop"], recipe["network"]["type"]) == (0.1, "unet")
    assert train(tiny("max_steps=8", *changes), out) == 8
    with pytest.raises(RecipeError, match="another network"):
        train(tiny("network.channels=16", *classes, *bound), out)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_the_run(
    tmp_path: Path,
    tiny: Callable[..., Recipe],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    number: signal.Signals,
) -> None:
    """It says at once that it will, and in the end what is kept and how to go on."""
    handler = signal.getsignal(number)
    before_step(3, monkeypatch, lambda trainer: signal.raise_signal(number))
    with caplog.at_level("INFO"):
        assert train(tiny("max_steps=50", "save_every=50"), tmp_path) == 3
    assert "stopping after this step" in caplog.text
    assert f"stopped at step 3 of 50; {tmp_path} holds the state and the model so far; the same command" in caplog.text
    assert signal.getsignal(number) is handler
    assert saved(tmp_path)["step"] == 3
    assert load_checkpoint(tmp_path / "model").config.training["steps"] == 3


def test_the_second_signal_ends_at_once(
    tmp_path: Path, tiny: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    def press_twice(trainer: Trainer) -> None:
        for _ in range(2):
            signal.raise_signal(signal.SIGINT)

    before_step(3, monkeypatch, press_twice)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            train(tiny("max_steps=50", "save_every=2"), tmp_path)
    finally:
        signal.signal(signal.SIGINT, before)
    assert saved(tmp_path)["step"] == 2


def test_the_log_shows_loss_speed_and_time_left(
    tmp_path: Path, tiny: Callable[..., Recipe], caplog: pytest.LogCaptureFixture
) -> None:
    """The first step however seldom a run logs."""
    with caplog.at_level("INFO"):
        train(tiny("max_steps=3", "log_every=3"), tmp_path)
    first, last = (record.getMessage() for record in caplog.records if record.getMessage().startswith("step"))
    assert re.fullmatch(r"step 1 of 3  loss \d\.\d{4}", first)
    assert re.fullmatch(r"step 3 of 3  loss \d\.\d{4}  \S+ images/s  0:00:00 left", last)


def before_step(step: int, monkeypatch: pytest.MonkeyPatch, happen: Callable[[Trainer], Any]) -> None:
    original = Trainer._train

    def train_step(self: Trainer, batch: Any) -> Any:
        if self.step == step - 1:
            happen(self)
        return original(self, batch)

    monkeypatch.setattr(Trainer, "_train", train_step)


def test_a_lost_run_ends_and_its_log_is_json(
    tmp_path: Path, tiny: Callable[..., Recipe], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"

    def poison(trainer: Trainer) -> None:
        trainer.network.register_forward_hook(lambda module, args, output: output * float("nan"))

    before_step(5, monkeypatch, poison)
    with pytest.raises(Diverged, match="lower the learning rate"):
        train(tiny("max_steps=100"), out)
    lines = (out / "metrics.jsonl").read_text().splitlines()
    entries = [json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is not JSON")) for line in lines]
    assert [entry["skipped"] for entry in entries[:4]] == [0, 0, 2, 4]
    assert len(entries) == (4 + MAX_BAD_STEPS) // 2 - 1
    assert "loss" not in entries[-1]


def test_a_run_of_another_version_is_not_gone_on_with(tmp_path: Path, tiny: Callable[..., Recipe]) -> None:
    train(tiny("max_steps=2"), tmp_path)
    path = tmp_path / "state.pt"
    torch.save(torch.load(path, weights_only=True) | {"format": 1}, path)
    with pytest.raises(RecipeError, match="another version of difuso began the run"):
        train(tiny("max_steps=4"), tmp_path)


def test_kid_is_measured_on_the_way_against_the_training_images(tmp_path: Path, tiny: Callable[..., Recipe]) -> None:
    seen: list[Any] = []

    def kid_from(real: Any) -> Callable[[Any], float]:
        seen.append(real)

        def distance(drawn: Any) -> float:
            seen.append(drawn)
            return 100.0 - len(seen)

        return distance

    out = tmp_path / "run"
    train(tiny("max_steps=6", "kid_every=3"), out, kid_from=kid_from)
    real, *drawn = seen
    assert real.shape == (10, 8, 8, 3)
    assert [(images.shape, images.dtype) for images in drawn] == [((256, 8, 8, 3), np.uint8)] * 2
    assert len(np.unique(drawn[0].reshape(256, -1), axis=0)) == 256, "each has a seed of its own"
    logged = {entry["step"]: entry for entry in read_metrics(out / "metrics.jsonl")}
    assert {step: entry["kid"] for step, entry in logged.items() if "kid" in entry} == {3: 98.0, 6: 97.0}
    assert "loss" in logged[6], "one step, one entry"


def test_a_pixel_transformer_on_a_flow_is_counted_trained_and_drawn_with(
    tmp_path: Path, tiny: Callable[..., Recipe]
) -> None:
    network = DiTConfig(channels=16, depth=2, heads=2, patch=2, bottleneck=8, num_classes=5, context_tokens=3)
    schedule, defaults = ScheduleConfig("flow", shift=2.0), SamplerDefaults("dpmpp", 2, "trailing")
    recipe = dataclasses.replace(
        tiny("max_steps=2", "prediction=x0", "weighting=flow", "timesteps=logit_normal"),
        network=network,
        label_drop=0.1,
        schedule=schedule,
        defaults=defaults,
    )
    c, n, values, hidden = 16, 16 + 3, 16 * 2 * 2 * 3, 42
    block = c * 6 * c + n * (c * 3 * c + 2 * n * c + c * c + c * 2 * hidden + hidden * c)
    around = 256 * c + c * c + values * 8 + 16 * 8 * c + c * 2 * c + c * values
    for batch in (2, 4):
        batches = Batches(first_images(recipe), batch, seed=0)
        assert call_flops(Trainer(dataclasses.replace(recipe, batch_size=batch), batches)) == 2 * (2 * block + around)
    train(recipe, tmp_path / "run")
    checkpoint = load_checkpoint(tmp_path / "run" / "model")
    assert (checkpoint.config.network, checkpoint.config.schedule) == (network, schedule)
    plan = checkpoint.config.plan(checkpoint.schedule)
    images = sample(plan, **networks_of(checkpoint, label=3), shape=(3, 8, 8), seeds=[1, 2])
    assert torch.isfinite(images).all()


def test_a_folder_is_for_one_run_at_a_time(tmp_path: Path, tiny: Callable[..., Recipe]) -> None:
    with alone_in(tmp_path), pytest.raises(RecipeError, match="another process trains in"):
        train(tiny("max_steps=2"), tmp_path)
    assert train(tiny("max_steps=2"), tmp_path) == 2


def test_a_run_goes_on_without_the_checkpoint_that_it_began_from(tmp_path: Path, tiny: Callable[..., Recipe]) -> None:
    train(tiny("max_steps=1"), tmp_path / "source")
    fine = [f"init={tmp_path / 'source' / 'model'}", "max_steps=2"]
    assert train(tiny(*fine), tmp_path / "run") == 2
    shutil.rmtree(tmp_path / "source")
    assert train(tiny(*fine, "max_steps=3"), tmp_path / "run") == 3
    with pytest.raises(RecipeError, match="init = "):
        train(tiny(*fine), tmp_path / "other")


def test_a_batch_that_cannot_be_cut_is_refused_before_any_image_is_read(
    tmp_path: Path, tiny: Callable[..., Recipe]
) -> None:
    with pytest.raises(RecipeError, match="cannot be cut into 3 equal parts"):
        train(tiny("accumulate=3"), tmp_path)
    assert [path.name for path in tmp_path.iterdir() if path.name != "images.npz"] == ["lock"]


def test_a_kill_while_writing_leaves_the_state_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_state(tmp_path) is None
    save_state(tmp_path, {"step": 1, "weights": torch.ones(3)})

    def killed(content: Any, file: Any) -> None:
        file.write(b"half a st")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path, {"step": 2})
    monkeypatch.undo()
    found = load_state(tmp_path)
    assert found is not None
    assert (found["step"], found["weights"].tolist()) == (1, [1, 1, 1])
    save_state(tmp_path, {"step": 2})
    assert load_state(tmp_path) == {"step": 2}


@pytest.mark.parametrize("damage", [b"", b"half a st"], ids=["empty", "torn"])
def test_a_run_whose_state_is_damaged_does_not_silently_start_again(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / STATE).write_bytes(damage)
    with pytest.raises(RecipeError, match="cannot be read"):
        load_state(tmp_path)


def test_nothing_that_trained_outlives_the_group(
    tiny: Callable[..., Recipe], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrapped network that is freed later waits for the group's threads with Python's lock, which they may need."""
    made: list[weakref.ref[Trainer]] = []

    class Watched(Trainer):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(weakref.ref(self))

    @contextmanager
    def group(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
        yield ALONE, device
        gc.collect()
        assert [trainer() for trainer in made] == [None]

    monkeypatch.setattr(runs, "Trainer", Watched)
    monkeypatch.setattr(runs, "joined", group)
    assert train(tiny("max_steps=1"), tmp_path / "run") == 1
    assert made
