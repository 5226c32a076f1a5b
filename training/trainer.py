"""The trainer: noise an image, ask the network, step; log, save, show."""

from __future__ import annotations

import dataclasses
import json
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from model.checkpoint import save_checkpoint
from model.errors import NonFiniteSample
from model.sampling import sample

from .ema import Ema
from .images import Batches, load_images
from .journal import Journal
from .losses import target, weights
from .recipe import Recipe
from .state import load_state, save_state
from .window import StepFacts, Window

log = logging.getLogger(__name__)

SHEET_SEEDS = range(64)
MAX_BAD_STEPS = 20


class Trainer:
    """One run: a network, its average, its optimiser and its place in the data.

    Args:
        recipe: decides everything.
        batches: of training images.
        device: where to compute.
    """

    def __init__(self, recipe: Recipe, batches: Batches, device: torch.device | str = "cpu") -> None:
        torch.manual_seed(recipe.seed)
        self.recipe = recipe
        self.batches = batches
        self.device = torch.device(device)
        self.schedule = recipe.schedule.build()
        network = recipe.model_config({}).build_network()
        self.network = network.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Fused kernels train 1.7 times as fast on a CPU; the state stays that of the plain network.
        self._forward = torch.compile(self.network) if recipe.compile else self.network
        self.ema = Ema(self.network, recipe.ema_decay)
        self.optimizer = torch.optim.AdamW(
            self.network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True
        )
        self.step = 0
        self.skipped = 0
        self._bad_in_a_row = 0

    def steps(self) -> Iterator[StepFacts]:
        """Trains until `max_steps`, yielding the facts of each step; the caller decides on logs, saves and the end."""
        batches = iter(self.batches)
        # The step is counted before a batch is taken: one taken in vain would be missing from a longer run.
        while self.step < self.recipe.max_steps:
            yield self._train(next(batches).to(self.device, memory_format=torch.channels_last))

    def _train(self, x0: Tensor) -> StepFacts:
        recipe = self.recipe
        t = torch.randint(0, self.schedule.num_train_timesteps, (len(x0),))
        noise = torch.randn(x0.shape).to(x0)
        x_t = self.schedule.q_sample(x0, t, noise)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.bf16):
            out = self._forward(x_t, t.to(self.device))
        errors = (out.float() - target(self.schedule, recipe.prediction, x0, t, noise)).square().mean((1, 2, 3))
        loss = (weights(self.schedule, recipe.prediction, recipe.weighting, t).to(errors) * errors).mean()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip_norm)
        if torch.isfinite(norm):
            self._bad_in_a_row = 0
            for group in self.optimizer.param_groups:
                group["lr"] = learning_rate(recipe, self.step)
            self.optimizer.step()
            self.ema.update(self.network)
        else:
            self._skip()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return StepFacts(loss.detach().cpu(), errors.detach().cpu(), t, norm.detach().cpu())

    def _skip(self) -> None:
        """A gradient of NaN or infinity is not applied; many in a row mean that the run is lost."""
        self.skipped += 1
        self._bad_in_a_row += 1
        if self._bad_in_a_row >= MAX_BAD_STEPS:
            raise NonFiniteSample(f"{MAX_BAD_STEPS} gradients in a row were not finite: lower the learning rate")

    def state(self) -> dict[str, Any]:
        """Everything that `load` needs to go on as if nothing had happened."""
        return {
            "step": self.step,
            "skipped": self.skipped,
            "position": self.batches.position,
            "network": self.network.state_dict(),
            "ema": self.ema.network.state_dict(),
            "ema_updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from a state of the same recipe."""
        self.step, self.skipped = state["step"], state["skipped"]
        self.batches.position = state["position"]
        self.network.load_state_dict(state["network"])
        self.ema.network.load_state_dict(state["ema"])
        self.ema.updates = state["ema_updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])

    def samples(self) -> Tensor:
        """Images of the averaged network from fixed seeds, with the recipe's default sampler."""
        config = self.recipe.model_config({})
        plan = config.plan(self.schedule)
        return sample(plan, self.ema.network, shape=config.shape, seeds=SHEET_SEEDS, device=self.device)


def learning_rate(recipe: Recipe, step: int) -> float:
    """Rises linearly over the warm-up, then stays, and falls linearly at the end."""
    warmup = (step + 1) / max(1, recipe.warmup_steps)
    decay = (recipe.max_steps - step) / recipe.decay_steps if recipe.decay_steps else 1.0
    return recipe.learning_rate * min(1.0, warmup, decay)


def train(recipe: Recipe, out: Path, *, device: str = "cpu") -> int:
    """Runs a recipe in a folder, or goes on where an earlier process stopped; returns the step reached.

    The folder gets recipe.json, metrics.jsonl, losses.png, tensorboard/, sheets/, states/ and model/, the servable
    checkpoint.
    SIGTERM and SIGINT save and end the run; the same call resumes it.

    Raises:
        RecipeError: if the images do not fill a batch, or the folder holds a run of another recipe.
        NonFiniteSample: if the loss stays NaN or infinite.
    """
    out.mkdir(parents=True, exist_ok=True)
    state = load_state(out / "states")
    if state is not None:
        recipe.check_continues(json.loads((out / "recipe.json").read_text(encoding="utf-8")))
    (out / "recipe.json").write_text(json.dumps(dataclasses.asdict(recipe), indent=2) + "\n", encoding="utf-8")
    images = load_images(recipe, out / "data")
    trainer = Trainer(recipe, Batches(images, recipe.batch_size, seed=recipe.seed, flip=recipe.data.flip), device)
    if state is not None:
        trainer.load(state)
        log.info("going on at step %d", trainer.step)
    journal = Journal(out)
    with _stop_requested() as stop, _progress(trainer) as show:
        window = Window(trainer.schedule.num_train_timesteps)
        for facts in trainer.steps():
            window.add(facts)
            if trainer.step % recipe.log_every == 0:
                metrics = window.close()
                rate = learning_rate(recipe, trainer.step - 1)
                journal.write(trainer.step, metrics | {"lr": rate, "skipped": float(trainer.skipped)})
                show(metrics)
            if trainer.step % recipe.save_every == 0 or stop:
                _save(trainer, out)
            if trainer.step % recipe.sheet_every == 0 and not stop:
                _show(trainer, journal)
                window.restart()
            if stop:
                log.info("stopped at step %d; the same command goes on", trainer.step)
                break
        else:
            _save(trainer, out)
            _show(trainer, journal)
    journal.close()
    return trainer.step


def _save(trainer: Trainer, out: Path) -> None:
    save_state(out / "states", trainer.step, trainer.state())
    facts = {"steps": trainer.step, "images": trainer.step * trainer.recipe.batch_size}
    save_checkpoint(out / "model", trainer.recipe.model_config(facts), trainer.ema.network)


def _show(trainer: Trainer, journal: Journal) -> None:
    journal.sheet(trainer.step, trainer.samples())
    journal.curve()


@contextmanager
def _stop_requested() -> Iterator[list[int]]:
    """A list that is empty until SIGTERM or SIGINT arrives."""
    received: list[int] = []
    signals = (signal.SIGTERM, signal.SIGINT)
    previous = {s: signal.signal(s, lambda number, frame: received.append(number)) for s in signals}
    try:
        yield received
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)


@contextmanager
def _progress(trainer: Trainer) -> Iterator[Any]:
    """A progress bar on a terminal, log lines elsewhere."""
    console = Console()
    if not console.is_terminal:
        yield lambda metrics: log.info(
            "step %d  loss %.4f  %.0f images/s", trainer.step, metrics["loss"], metrics["images_per_second"]
        )
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task(trainer.recipe.name, total=trainer.recipe.max_steps, completed=trainer.step)
        yield lambda metrics: bar.update(
            task, completed=trainer.step, description=f"{trainer.recipe.name}  loss {metrics['loss']:.4f}"
        )
