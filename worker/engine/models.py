"""The models of a folder: loads them, warms them up, and replaces them by newer versions while the worker runs."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from jobs.catalog import Mark, model_marks, passed_over
from model.checkpoint import Checkpoint, load_checkpoint
from model.errors import ForeignError, ModelError, may_pass, reason_of

from ..device.compiled import load_compiled
from ..device.core_lending import neighbour_of, own_core
from ..device.cores import in_a_thread_that_ends
from ..device.precision import is_slow
from ..settings import WorkerSettings
from ..stepping.runner import CPU_SLOTS, Runner, pick_device

log = logging.getLogger(__name__)

# The pause before the same files are tried again, in durations of the failed try. Each try takes cores and memory from
# the served models, and a card that is too small for two versions stays too small.
REST = 10


@dataclass(frozen=True)
class Models:
    """The models that a worker serves."""

    runners: Mapping[str, Runner] = field(default_factory=dict)  # the models that are warm, by name
    # the reason for each folder that could not be loaded; an earlier version may still be served
    refused: Mapping[str, str] = field(default_factory=dict)
    # the marks of all folders that were loaded or refused, by name
    loaded: Mapping[str, Mark] = field(default_factory=dict)
    seen: Mapping[str, Mark] = field(default_factory=dict)  # the marks of all folders at the last look, by name
    # when refused folders that may load without a change are tried again: times on the monotonic clock, by name
    again: Mapping[str, float] = field(default_factory=dict)

    def is_coming(self, name: str) -> bool:
        """Whether this model has been seen and is neither loaded nor refused yet."""
        return name in self.seen and name not in self.loaded


def load_models(settings: WorkerSettings) -> Models:
    """Loads the first model that can be loaded: the default model, or else the first by name.

    A `ModelFollower` loads the others while the worker serves. If no model can be loaded, the
    reasons are in `refused`.
    """
    for name, reason in passed_over(settings.models_dir).items():
        log.warning("the folder %s is passed over: %s", (settings.models_dir / name).absolute(), reason)
    seen = Models(seen=model_marks(settings.models_dir))  # a folder that changes until the next look is the follower's
    for models in newer_models(settings, seen):
        if models.runners:
            break
    return models


class ModelFollower:
    """Loads the remaining models, and newer versions, in a thread of its own, so that jobs continue meanwhile."""

    def __init__(self, settings: WorkerSettings, models: Models) -> None:
        self.models = models  # that the worker can serve now, each as soon as it is warm
        self._settings = settings
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._looking: Future[None] | None = None
        self._closed = False

    def look(self) -> None:
        """Looks for models to load, unless the last look still runs. To be called every few seconds.

        Raises torch.AcceleratorError if the device was lost during the last look.
        """
        if self._looking is not None:
            if not self._looking.done():
                return
            self._looking.result()
        self._looking = self._pool.submit(self._look)

    def close(self) -> None:
        """Stops the thread without waiting for a running look; that one loads no further model."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> None:
        for models in newer_models(self._settings, self.models, is_closed=lambda: self._closed):
            self.models = models


def newer_models(
    settings: WorkerSettings, models: Models, is_closed: Callable[[], bool] = lambda: False
) -> Iterator[Models]:
    """Loads the folders that are still to come, have changed or are to be tried again; yields all models after each.

    A folder is loaded only if it has not changed since the last look, so that a half-written one is left alone. A model
    is served until its next version is warm, and also if that version is refused or the folder is gone: there may be
    jobs for it. A folder that was refused because the disk or the memory failed is tried again at later looks. Once
    `is_closed` returns True nothing more is loaded, and what fails is not reported.
    """
    try:
        marks = model_marks(settings.models_dir)
    except OSError as error:
        log.warning("the models folder cannot be read: %s", error.strerror)
        yield models
        return
    device = pick_device(settings.device)
    unchanged = [name for name, mark in marks.items() if mark == models.seen.get(name)]
    models = replace(models, seen=marks)
    yield models
    for name in sorted(unchanged, key=lambda name: (name != settings.default_model, name)):
        if is_closed():
            return
        if marks[name] == models.loaded.get(name) and time.monotonic() < models.again.get(name, math.inf):
            continue
        runners, refused, again = dict(models.runners), dict(models.refused), dict(models.again)
        before = refused.pop(name, None)
        again.pop(name, None)
        started = time.monotonic()
        try:
            runners[name] = in_a_thread_that_ends(partial(_warm, settings.models_dir / name, settings, device))
        except torch.AcceleratorError:
            raise
        except Exception as error:  # an error of one model must not stop the others
            if is_closed():  # the process may end, in which no more threads can start
                return
            refused[name] = reason_of(error)
            passing = may_pass(error) or isinstance(error, torch.OutOfMemoryError)
            if passing:
                again[name] = time.monotonic() + REST * (time.monotonic() - started)
            if not passing or refused[name] != before:
                how = "refused for now" if passing else "refused"
                ours = isinstance(error, ModelError) and not isinstance(error, ForeignError)
                log.error("model %s is %s: %s", name, how, refused[name], exc_info=not ours)
        models = Models(runners, refused, {**models.loaded, name: marks[name]}, marks, again)
        yield models


def _warm(folder: Path, settings: WorkerSettings, device: torch.device) -> Runner:
    core = own_core(settings.core_folder)
    core.take()  # so that the neighbour's calls neither take longer nor disturb what is measured
    try:
        runner = make_runner(load_checkpoint(folder, networks=settings.networks), settings, device=device)
    finally:
        core.leave()
    how = f"{'compiled ' if runner.compiled else ''}batches of {','.join(map(str, runner.buckets))}"
    if runner.precision != "float32":
        how += f" in {runner.precision}"
    log.info("model %s is warm on %s: %s, %.0f image-steps/s", folder.name, device, how, runner.rate)
    if runner.checkpoint.config.precision == "bfloat16" != runner.precision:
        log.warning("model %s is computed in float32: its network, of another package, has no bfloat16", folder.name)
    if is_slow(device, runner.precision):
        log.warning(
            "model %s is computed in %s, for which this processor has no fast instructions: float32 would be faster "
            "here; DIFUSO_PRECISION=float32 chooses it, for all workers alike",
            folder.name,
            runner.precision,
        )
    return runner


def make_runner(
    checkpoint: Checkpoint, settings: WorkerSettings, *, device: torch.device, slots: int | None = None
) -> Runner:
    """Makes a runner as the settings want it, of compiled networks where there are some for this machine.

    Args:
        slots: the size of the largest batch where the settings name none.

    Raises NonFiniteSample if the network returns NaN or infinity for noise.
    """
    checkpoint, slots = checkpoint.in_precision(settings.precision), settings.slots or slots
    usable = settings.compile == "auto" and device.type == "cpu"
    compiled, weaker = load_compiled(checkpoint, settings.compiled_dir, slots or CPU_SLOTS) if usable else ({}, {})
    if slots:
        slots = max(compiled, default=slots)
    return Runner(
        checkpoint,
        device=device,
        slots=slots,
        exact=settings.exact,
        compiled=compiled,
        compiled_weaker=weaker,
        graphs=settings.cuda_graphs,
        neighbour=neighbour_of(settings.core_folder),
    )
