"""A run: a recipe that is trained in a folder, by one or more processes, at once or one after another."""

import dataclasses
import json
import logging
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch

from difuso.model.errors import CheckpointError
from difuso.model.folders.files import CARD, LOSSES
from difuso.model.folders.labels import LABELS, labels_to_text
from difuso.model.memory import keep_freed_memory

from ..data import dataset
from ..data.batches import Batches, Seeds
from ..data.images import ImageArray
from ..errors import Diverged, check_classes
from ..recipe import Recipe
from ..replacing import replace_text
from .card import card, place
from .initial import check_initial, seeds_of
from .journal import COPIES, Journal, plot_run
from .outcomes import Distance, GuidedModel, ImageModel, Outcome
from .processes import Processes, joined
from .progress import Window
from .state import STATE, alone_in, load_state, save_state
from .trainer import Trainer, check_parts, learning_rate

log = logging.getLogger(__name__)

MODEL, DATA, HELD_OUT, RECIPE = "model", "data", "held_out", "recipe.json"

STOPPING = "stopping after this step, to save it; another Ctrl-C ends at once and loses what came after the last save"
STOPPED = "stopped at step %d of %d; %s holds the state and the model so far; the same command continues from there"


KIDFrom = Callable[[ImageArray], Distance]  # makes the KID to the images of training


def train(recipe: Recipe, out: Path, *, device: str = "cpu", kid_from: KIDFrom | None = None) -> int:
    """Runs a recipe in a folder, or resumes where earlier processes stopped; returns the step reached.

    docs/training.md describes the folder. Only the first of several processes writes. SIGTERM and SIGINT save and end
    the run; the same call resumes it.

    Args:
        kid_from: makes the KID to the training images, for recipes with `kid_every`.

    Raises:
        RecipeError: if the images cannot be used, or the folder holds a run of another recipe.
        Diverged: if the gradients stay NaN or infinite, or the weights become so.
    """
    if recipe.loss == "distillation" or not (out / STATE).exists():  # another run goes on without its beginning
        check_initial(recipe)
    keep_freed_memory()
    with joined(torch.device(device)) as (processes, own_device), alone_in(out) if processes.first else nullcontext():
        return _train(recipe, out, processes, own_device, kid_from)


def _train(recipe: Recipe, out: Path, processes: Processes, device: torch.device, kid_from: KIDFrom | None) -> int:
    """Does what `train` says in one process of a group, and keeps nothing: see `joined`."""
    check_parts(recipe, processes)
    out.mkdir(parents=True, exist_ok=True)
    state = load_state(out)
    if processes.first:
        _prepare(recipe, out, resumed=state is not None)
    processes.wait()
    dataset.draw(recipe, out / DATA, device, process=processes.rank, processes=processes.count)
    processes.wait()
    if processes.first:
        dataset.scan(recipe, out / DATA)
        shutil.rmtree(out / DATA / dataset.PARTS, ignore_errors=True)
        if (held_out := _held_out(recipe)) is not None:
            dataset.scan(held_out, out / HELD_OUT)
    processes.wait()
    share, images = processes.share(recipe.batch_size), dataset.load_for_training(recipe, out / DATA)
    seeds = seeds_of(recipe) if state is None else Seeds(**state["trainer"]["seeds"])
    batches = Batches(images, recipe.batch_size, seed=seeds.of("order"), share=share)
    trainer = Trainer(recipe, batches, device, processes, seeds=seeds, initial=state is None)
    outcome = _outcome(trainer, out, kid_from) if processes.first else None
    if state is not None:
        trainer.load(state["trainer"])
        log.info("resuming at step %d", trainer.step)
    with closing(Run(trainer, out, outcome, earlier_seconds=state["seconds"] if state else 0.0)) as run:
        run.train()
    return trainer.step


def _prepare(recipe: Recipe, out: Path, *, resumed: bool) -> None:
    """Writes the parts of the folder that must exist before the first step."""
    if resumed:
        recipe.check_continues(json.loads((out / RECIPE).read_text(encoding="utf-8")))
    replace_text(out / RECIPE, json.dumps(recipe.as_json, indent=2) + "\n")
    for left in out.glob(f".{MODEL}*"):  # left by a process that was killed while it saved
        shutil.rmtree(left, ignore_errors=True)


def _held_out(recipe: Recipe) -> Recipe | None:
    """Returns the recipe with the held-out images in place of those of training; None if there are none."""
    return None if recipe.held_out is None else dataclasses.replace(recipe, data=recipe.held_out)


def _outcome(trainer: Trainer, out: Path, kid_from: KIDFrom | None) -> Outcome:
    recipe, held_out, own = trainer.recipe, _held_out(trainer.recipe), trainer.batches.dataset
    images = None if held_out is None else dataset.load(held_out, out / HELD_OUT)
    if images is not None:
        check_classes("the held-out images", images.classes or (), "the set of training", own.classes or ())
    if recipe.trains_classifier:
        return GuidedModel(trainer, images)
    distance = kid_from(own.images) if kid_from and recipe.kid_every else None
    return ImageModel(trainer, distance, held_out=images)


class Run:
    """Runs a trainer; logs, saves and shows its `outcome`, which only the first process has."""

    def __init__(
        self, trainer: Trainer, out: Path, outcome: Outcome | None = None, *, earlier_seconds: float = 0.0
    ) -> None:
        self.trainer = trainer
        self._outcome = outcome
        self._out = out
        self._journal = None if outcome is None else Journal(out, trainer.step)
        self._earlier_seconds = earlier_seconds
        self._started = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds of training so far, in all processes one after another."""
        return self._earlier_seconds + time.perf_counter() - self._started

    def train(self) -> None:
        """Trains to the end of the recipe, or until a signal stops the run."""
        trainer, recipe = self.trainer, self.trainer.recipe
        window = Window(trainer.schedule.num_train_timesteps)
        if self._journal is not None:
            what = recipe.name, f"{trainer.parameters:,}", trainer.precision, place(trainer)
            log.info("training %s: %s parameters, in %s on %s", *what)
        begun, stops = trainer.step, False
        with _signals() as received:
            for facts in trainer.steps():
                window.add(facts)
                stops = bool(trainer.processes.most(len(received), trainer.device))
                if self._journal is not None and trainer.step == begun + 1:  # which takes longest
                    log.info("step %d of %d  loss %.4f", trainer.step, recipe.max_steps, facts.loss)
                if trainer.step % recipe.log_every == 0:
                    self._log(window.close())
                if trainer.step % recipe.sheet_every == 0 and trainer.step < recipe.max_steps and not stops:
                    self._show()
                    window.restart()
                if trainer.step % recipe.save_every == 0 and not stops:
                    self._measure_held_out()  # whose loss belongs to the log of the model
                if trainer.step % recipe.save_every == 0 or stops:
                    self._save()  # with what was shown last
                if stops:
                    break
                if recipe.kid_every and trainer.step % recipe.kid_every == 0:
                    self._measure()
                    window.restart()
            if not stops:
                self._show()
                self._save()
        if stops:
            log.info(STOPPED, trainer.step, recipe.max_steps, self._out)

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()

    def _log(self, metrics: dict[str, float]) -> None:
        if self._journal is None:
            return
        trainer, recipe, speed = self.trainer, self.trainer.recipe, metrics["images_per_second"]
        rate = learning_rate(recipe, trainer.step - 1)
        self._journal.write(trainer.step, metrics | {"lr": rate, "skipped": float(trainer.skipped)})
        left = timedelta(seconds=round((recipe.max_steps - trainer.step) * recipe.batch_size / speed))
        progress = trainer.step, recipe.max_steps, metrics["loss"], speed, left
        log.info("step %d of %d  loss %.4f  %.3g images/s  %s left", *progress)

    def _save(self) -> None:
        trainer = self.trainer
        state = {"trainer": trainer.state(), "seconds": self.seconds}
        if self._outcome is None:
            return
        facts: dict[str, Any] = {
            "steps": trainer.step,
            "images": trainer.step * trainer.recipe.batch_size,
            "training_images": len(trainer.batches.dataset.trained),
        }
        facts["ema_decay"] = trainer.ema.decay
        try:  # before the state, which stays one of finite numbers
            self._outcome.save(self._out / MODEL, trainer.ema, facts, self._documents())
        except CheckpointError as error:
            raise Diverged(f"{error}: lower the learning rate") from error
        save_state(self._out, state)

    def _documents(self) -> dict[str, Path]:
        """Returns the files about the model so far; none about one that only gets a classifier."""
        if self._journal is None or self.trainer.recipe.trains_classifier:
            return {}
        replace_text(self._out / CARD, card(self.trainer, self.seconds, self._journal.last(COPIES)))
        documents = {CARD: self._out / CARD} | self._journal.documents()
        if self.trainer.recipe.labels:
            replace_text(self._out / LABELS, labels_to_text(self.trainer.recipe.labels))
            documents[LABELS] = self._out / LABELS
        return documents

    def _measure_held_out(self) -> None:
        if self._journal is not None and isinstance(self._outcome, ImageModel):
            self._outcome.measure_held_out(self.trainer.step, self._journal)

    def _measure(self) -> None:
        if self._journal is not None and isinstance(self._outcome, ImageModel):
            self._outcome.measure(self.trainer.step, self._journal)

    def _show(self) -> None:
        if self._journal is not None and self._outcome is not None:
            self._outcome.show(self.trainer.step, self._journal)
            self._measure_held_out()
            plot_run(self._out, self._out / LOSSES)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Yields a list that is empty until SIGTERM or SIGINT arrives; a second signal has its previous effect."""
    received: list[int] = []

    def receive(number: int, frame: object) -> None:
        received.append(number)
        signal.signal(number, previous[signal.Signals(number)])
        log.info(STOPPING)

    signals = (signal.SIGTERM, signal.SIGINT)
    previous = {number: signal.signal(number, receive) for number in signals}
    try:
        yield received
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
