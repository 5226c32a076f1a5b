"""A run that was stopped and resumed is the run that was never stopped; and it learns."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model import NonFiniteSample, load_checkpoint
from training.images import Batches, ImageArray
from training.journal import read_metrics
from training.recipe import Recipe, RecipeError, load_recipe
from training.state import load_state, save_state
from training.trainer import MAX_BAD_STEPS, Trainer, train

TINY = (
    "image_size=8",
    "batch_size=4",
    "bf16=false",
    "warmup_steps=3",
    "network.channels=8",
    "network.channel_mult=[1]",
    "network.groups=4",
    "network.head_channels=8",
    "network.dropout=0.1",  # draws from the generator in every step, so that a resumed run has to restore it
    "data.flip=true",
    "defaults.steps=2",
    "log_every=2",
)


def tiny(*changes: str) -> Recipe:
    return load_recipe("smoke", [*TINY, *changes])


NOISE = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), dtype=np.uint8)
COLOURS = np.broadcast_to(NOISE[:8, :1, :1], (8, 8, 8, 3)).copy()


def trainer(recipe: Recipe, images: ImageArray = NOISE) -> Trainer:
    return Trainer(recipe, Batches(images, recipe.batch_size, seed=recipe.seed, flip=recipe.data.flip))


def assert_equal(one: Any, other: Any) -> None:
    """Bit for bit, through dicts and lists of tensors."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_equal(left, right)
    elif isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    else:
        assert one == other


def run(recipe: Recipe, steps: int, folder: Path | None = None) -> Trainer:
    """Trains a few steps, from the state in a folder if there is one."""
    it = trainer(recipe)
    if folder is not None and (state := load_state(folder)) is not None:
        it.load(state)
    for _ in islice(it.steps(), steps):
        pass
    return it


@pytest.mark.parametrize("max_steps", [100, 5], ids=["stopped", "ended, then made longer"])
def test_a_resumed_run_is_bit_equal_to_one_that_never_stopped(tmp_path: Path, max_steps: int) -> None:
    """Weights, average, optimiser, generator and place in the data, across the border of an epoch."""
    straight = run(tiny("max_steps=100"), 10)
    half = run(tiny(f"max_steps={max_steps}"), 6 if max_steps == 5 else 5)
    assert half.step == 5
    save_state(tmp_path, half.step, half.state())
    torch.manual_seed(99)  # what other code does to the global generator must not matter
    resumed = run(tiny("max_steps=100"), 5, tmp_path)
    assert_equal(resumed.state(), straight.state())


def test_eight_images_are_learnt() -> None:
    """The loss falls to a fraction of what the zero prediction of an untrained network has."""
    recipe = tiny("network.dropout=0.0", "network.channels=32", "learning_rate=0.003", "batch_size=8", "max_steps=120")
    losses = [float(step.loss) for step in trainer(recipe, COLOURS).steps()]
    assert np.mean(losses[-20:]) < 0.6 * np.mean(losses[:5])


def test_a_step_that_is_not_finite_is_skipped_and_many_end_the_run() -> None:
    it = trainer(tiny())
    steps = it.steps()
    next(steps)
    before = {name: tensor.clone() for name, tensor in it.network.state_dict().items()}
    hook = it.network.register_forward_hook(lambda module, args, out: out * float("nan"))
    for _ in range(MAX_BAD_STEPS - 1):
        next(steps)
    assert_equal(dict(it.network.state_dict()), before)
    assert (it.skipped, it.ema.updates) == (MAX_BAD_STEPS - 1, 1)
    hook.remove()
    next(steps)
    assert it.ema.updates == 2
    it.network.register_forward_hook(lambda module, args, out: out * float("nan"))
    with pytest.raises(NonFiniteSample, match="lower the learning rate"):
        for _ in steps:
            pass


@pytest.fixture
def images(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random images in place of drawn ones."""
    monkeypatch.setattr("training.trainer.load_images", lambda recipe, cache: NOISE)


@pytest.mark.usefixtures("images")
def test_a_run_leaves_a_model_that_loads_and_records_that_read(tmp_path: Path) -> None:
    recipe = tiny("max_steps=6", "save_every=4", "sheet_every=4")
    assert train(recipe, tmp_path) == 6
    checkpoint = load_checkpoint(tmp_path / "model")
    assert checkpoint.config.prediction == "v"
    assert checkpoint.config.training["steps"] == 6
    state = load_state(tmp_path / "states")
    assert state is not None
    for name, tensor in checkpoint.network.state_dict().items():
        assert torch.allclose(tensor, state["ema"][name], atol=1e-3)  # saved as float16
    assert [entry["step"] for entry in read_metrics(tmp_path / "metrics.jsonl")] == [2, 4, 6]
    assert sorted(path.name for path in (tmp_path / "sheets").iterdir()) == ["00000004.png", "00000006.png"]
    assert (tmp_path / "losses.png").stat().st_size > 1000
    assert train(tiny("max_steps=8"), tmp_path) == 8
    with pytest.raises(RecipeError, match="another network"):
        train(tiny("network.channels=16"), tmp_path)


@pytest.mark.usefixtures("images")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    handler = signal.getsignal(number)
    raise_at(3, monkeypatch, lambda: signal.raise_signal(number))
    assert train(tiny("max_steps=50", "save_every=50"), tmp_path) == 3
    assert signal.getsignal(number) is handler
    state = load_state(tmp_path / "states")
    assert state is not None
    assert state["step"] == 3
    assert load_checkpoint(tmp_path / "model").config.training["steps"] == 3
    monkeypatch.undo()


def raise_at(step: int, monkeypatch: pytest.MonkeyPatch, happen: Callable[[], None]) -> None:
    original = Trainer._train

    def train_step(self: Trainer, x0: torch.Tensor) -> Any:
        if self.step == step - 1:
            happen()
        return original(self, x0)

    monkeypatch.setattr(Trainer, "_train", train_step)


def test_a_torn_metrics_line_is_passed_over_and_repeated_steps_count_once(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    lines = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 2.0}, {"step": 2, "loss": 3.0}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"step": 3, "lo', encoding="utf-8")
    assert read_metrics(path) == [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 3.0}]
