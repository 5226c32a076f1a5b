"""The models of a folder: loads them, warms them up, and replaces them by newer versions while the worker runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch

from jobs.following import Mark, model_marks
from model.checkpoint import Checkpoint, load_checkpoint
from model.errors import ModelError, reason_of

from .compiled import load_compiled
from .cores import in_a_thread_that_ends
from .runner import CPU_SLOTS, Runner, pick_device
from .settings import WorkerSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Models:
    """The models that a worker serves.

    Attributes:
        runners: the models that are warm, by name.
        refused: the reason for each folder that could not be loaded; an earlier version may still be served.
        loaded: the marks of all folders that were loaded or refused, by name.
        seen: the marks of all folders at the last look, by name.
    """

    runners: Mapping[str, Runner] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    loaded: Mapping[str, Mark] = field(default_factory=dict)
    seen: Mapping[str, Mark] = field(default_factory=dict)


def load_models(settings: WorkerSettings) -> Models:
    """Loads all models of the folder; those that cannot be loaded are in `refused`."""
    marks = model_marks(settings.models_dir)
    return _load(settings, Models(seen=marks), marks)


class ModelFollower:
    """Looks for newer models in a thread of its own, so that jobs go on while models load."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._looking: Future[Models] | None = None

    def look(self, models: Models) -> Models:
        """Returns the models that the last look found, or `models` while it goes on. To be called every few seconds.

        Raises:
            torch.AcceleratorError: if the device was lost.
        """
        if self._looking is not None and not self._looking.done():
            return models
        found = models if self._looking is None else self._looking.result()
        self._looking = self._pool.submit(newer_models, self._settings, found)
        return found

    def close(self) -> None:
        """Stops the thread without waiting for a look that goes on."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def newer_models(settings: WorkerSettings, models: Models) -> Models:
    """Returns the models after loading the folders that changed.

    A folder is loaded only if it has not changed since the last look, so that a half-written one is left alone. A model
    is served until its next version is warm, and also if that version is refused or the folder is gone: there may be
    jobs for it.
    """
    try:
        marks = model_marks(settings.models_dir)
    except OSError as error:
        log.warning("the models folder cannot be read: %s", error.strerror)
        return models
    return _load(settings, models, marks)


def _load(settings: WorkerSettings, models: Models, marks: Mapping[str, Mark]) -> Models:
    device = pick_device(settings.device)
    runners, refused, loaded = dict(models.runners), dict(models.refused), dict(models.loaded)
    for name, mark in marks.items():
        if mark != models.seen.get(name) or mark == loaded.get(name):
            continue
        loaded[name] = mark
        refused.pop(name, None)
        try:
            runners[name] = in_a_thread_that_ends(partial(_warm, settings.models_dir / name, settings, device))
        except torch.AcceleratorError:
            raise
        except Exception as error:  # whatever the error, the other models are served
            refused[name] = reason_of(error)
            log.error("model %s is refused: %s", name, refused[name], exc_info=not isinstance(error, ModelError))
    return Models(runners, refused, loaded, marks)


def _warm(folder: Path, settings: WorkerSettings, device: torch.device) -> Runner:
    runner = make_runner(load_checkpoint(folder), settings, device=device)
    how = f"{'compiled ' if runner.compiled else ''}batches of {','.join(map(str, runner.buckets))}"
    log.info("model %s is warm on %s: %s, %.0f image-steps/s", folder.name, device, how, runner.rate)
    return runner


def make_runner(
    checkpoint: Checkpoint, settings: WorkerSettings, *, device: torch.device, slots: int | None = None
) -> Runner:
    """Makes a runner as the settings want it, of compiled networks where there are some for this machine.

    Args:
        slots: the size of the largest batch where the settings name none.

    Raises:
        NonFiniteSample: if the network returns NaN or infinity for noise.
    """
    slots = settings.slots or slots
    usable = settings.compile == "auto" and device.type == "cpu"
    compiled = load_compiled(checkpoint, settings.compiled_dir, slots or CPU_SLOTS) if usable else {}
    if slots:
        slots = max(compiled, default=slots)
    return Runner(checkpoint, device=device, slots=slots, exact=settings.exact, compiled=compiled)
