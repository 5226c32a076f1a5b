"""The models of a folder: loads them, warms them up, and adds newer versions while the worker runs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from difuso.jobs.model_folders import Mark, model_marks, newest_first, passed_over
from difuso.model.checkpoint import Checkpoint, load_checkpoint
from difuso.model.errors import ForeignError, ModelError, may_pass, reason_of
from difuso.model.folders.version import model_of, ref_of
from difuso.model.formats.folders import read_config, read_version

from ..device.core_lending import neighbour_of, own_core
from ..device.cores import in_a_thread_that_ends
from ..settings import WorkerSettings
from ..stepping.runner import Runner, pick_device

log = logging.getLogger(__name__)

# The pause before the same files are tried again, in durations of the failed try. Each try takes cores and memory from
# the served models, and a card that is too small for two versions stays too small.
REST = 10
# How long the warm-up of each batch size waits for running jobs at most, because some workers always have jobs.
GIVE_WAY_SECONDS, LOOK_SECONDS = 0.5, 0.02


@dataclass(frozen=True)
class Refused:
    """A folder that could not be loaded."""

    reason: str
    version: str | None  # of the model in it; None if that is unknown


@dataclass(frozen=True)
class Models:
    """The models that a worker serves, in one or more versions each."""

    runners: Mapping[str, Runner] = field(default_factory=dict)  # the versions that are warm, by ref
    held: Mapping[str, str] = field(default_factory=dict)  # the ref of the version that each folder holds, or held last
    refused: Mapping[str, Refused] = field(default_factory=dict)  # by folder
    # the marks of all folders that were loaded or refused, by name
    loaded: Mapping[str, Mark] = field(default_factory=dict)
    seen: Mapping[str, Mark] = field(default_factory=dict)  # the marks of all folders at the last look, by name
    # when refused folders that may load without a change are tried again: times on the monotonic clock, by name
    again: Mapping[str, float] = field(default_factory=dict)

    @property
    def coming(self) -> set[str]:
        """The models of which a folder has been seen and is neither loaded nor refused yet."""
        return {model_of(folder) for folder in self.seen.keys() - self.loaded.keys()}

    def newest(self, model: str) -> str | None:
        """Returns the ref of the newest version of a model; None if there is none."""
        folders = self._folders(model)
        return self.held[min(folders, key=lambda each: newest_first(each, self.loaded[each]))] if folders else None

    @property
    def superseded(self) -> set[str]:
        """The refs of the versions that no folder holds any longer, which are served until their jobs are done."""
        models = {model_of(folder) for folder in self.held}
        return self.runners.keys() - {self.held[folder] for model in models for folder in self._folders(model)}

    def _folders(self, model: str) -> list[str]:
        """Returns the folders of a model that are there, or without any those that were."""
        held = [folder for folder in self.held if model_of(folder) == model]
        return [folder for folder in held if folder in self.seen] or held

    def without(self, refs: Collection[str]) -> Models:
        """Returns the models without these versions."""
        return replace(self, runners={ref: runner for ref, runner in self.runners.items() if ref not in refs})


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
    """Loads the remaining models, and newer versions, in a thread of its own, so that jobs continue meanwhile.

    Attributes:
        models: the models that the worker can serve now, each as soon as it is warm.
        has_jobs: function that returns whether jobs are running, to which the warm-up gives way.
    """

    def __init__(self, settings: WorkerSettings, models: Models) -> None:
        self.models = models
        self.has_jobs: Callable[[], bool] = lambda: False
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

    def forget(self, refs: Collection[str]) -> None:
        """Lets go of superseded versions, unless folders are being looked at, which ends with all of them again."""
        if self._looking is None or self._looking.done():
            self.models = self.models.without(self.models.superseded.intersection(refs))

    def close(self) -> None:
        """Stops the thread without waiting for a running look; that one loads no further model."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _look(self) -> None:
        for models in newer_models(
            self._settings, self.models, is_closed=lambda: self._closed, give_way=self._give_way
        ):
            self.models = models

    def _give_way(self) -> None:
        until = time.monotonic() + GIVE_WAY_SECONDS
        while self.has_jobs() and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)


def newer_models(
    settings: WorkerSettings,
    models: Models,
    is_closed: Callable[[], bool] = lambda: False,
    give_way: Callable[[], None] = lambda: None,
) -> Iterator[Models]:
    """Loads the folders that are still to come, have changed or are to be tried again; yields all models after each.

    A folder is loaded only if it has not changed since the last look, so that a half-written one is left alone. The
    version before is kept beside the new one, and also if that is refused or the folder is gone: there may be jobs for
    it. A folder that was renamed is not loaded again. One that was refused because the disk or the memory failed is
    tried again at later looks. Once `is_closed` returns True nothing more is loaded, and what fails is not reported.
    `give_way` is called before each batch size is warmed up, and may wait.
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
    for name in sorted(unchanged, key=lambda name: (model_of(name) != settings.default_model, name)):
        if is_closed():
            return
        if marks[name] == models.loaded.get(name) and time.monotonic() < models.again.get(name, math.inf):
            continue
        folder, version = settings.models_dir / name, _version(settings.models_dir / name)
        ref = ref_of(model_of(name), version or "")
        if ref in models.runners and models.held.get(name) != ref:  # it is that of a folder that was renamed
            models = _with(models, name, marks[name], models.runners[ref])
            yield models
            continue
        before, started = models.refused.get(name), time.monotonic()
        try:
            runner = in_a_thread_that_ends(partial(_warm, folder, settings, device, give_way))
        except torch.AcceleratorError:
            raise
        except Exception as error:  # an error of one model must not stop the others
            if is_closed():  # the process may end, in which no more threads can start
                return
            models = _refuse(models, name, marks[name], error, version, seconds=time.monotonic() - started)
            _log(name, error, is_new=models.refused[name] != before, is_tried_again=name in models.again)
        else:
            models = _with(models, name, marks[name], runner)
        yield models


def _version(folder: Path) -> str | None:
    """Returns the version of the model in a folder; None if that is unknown."""
    try:
        return read_version(folder, read_config(folder))
    except Exception:  # of whatever kind: to load the folder fails as well, and says why
        return None


def _with(models: Models, name: str, mark: Mark, runner: Runner) -> Models:
    """Returns the models with that of a folder, which has been loaded."""
    ref = ref_of(model_of(name), runner.checkpoint.version)
    return replace(
        models,
        runners={**models.runners, ref: runner},
        held={**models.held, name: ref},
        refused={each: why for each, why in models.refused.items() if each != name},
        loaded={**models.loaded, name: mark},
        again={each: at for each, at in models.again.items() if each != name},
    )


def _refuse(models: Models, name: str, mark: Mark, error: Exception, version: str | None, *, seconds: float) -> Models:
    """Returns the models without that of a folder, which could not be loaded in so many seconds."""
    again = {each: at for each, at in models.again.items() if each != name}
    if may_pass(error) or isinstance(error, torch.OutOfMemoryError):
        again[name] = time.monotonic() + REST * seconds
    refused = {**models.refused, name: Refused(reason_of(error), version)}
    return replace(models, refused=refused, loaded={**models.loaded, name: mark}, again=again)


def _log(name: str, error: Exception, *, is_new: bool, is_tried_again: bool) -> None:
    """Writes why a folder is refused, and again only if the reason is new or the folder has changed."""
    if is_new or not is_tried_again:
        how = "refused for now" if is_tried_again else "refused"
        ours = isinstance(error, ModelError) and not isinstance(error, ForeignError)
        log.error("model %s is %s: %s", name, how, reason_of(error), exc_info=not ours)


def _warm(folder: Path, settings: WorkerSettings, device: torch.device, give_way: Callable[[], None]) -> Runner:
    core = own_core(settings.core_folder)
    core.take()  # so that the neighbour's calls neither take longer nor disturb what is measured
    try:
        checkpoint = load_checkpoint(folder, networks=settings.networks)
        runner = make_runner(checkpoint, settings, device=device, give_way=give_way)
    finally:
        core.leave()
    how = f"batches of {','.join(map(str, runner.buckets))}"
    if runner.precision != "float32":
        how += f" in {runner.precision}"
    log.info("model %s is warm on %s: %s, %.0f image-steps/s", folder.name, device, how, runner.rate)
    if runner.checkpoint.config.precision == "bfloat16" != runner.precision:
        log.warning("model %s is computed in float32: its network, of another package, has no bfloat16", folder.name)
    return runner


def make_runner(
    checkpoint: Checkpoint,
    settings: WorkerSettings,
    *,
    device: torch.device,
    slots: int | None = None,
    give_way: Callable[[], None] = lambda: None,
) -> Runner:
    """Makes a runner as the settings want it.

    Args:
        slots: the size of the largest batch where the settings name none.
        give_way: function that is called before each batch size is warmed up; it may wait for what is more urgent.

    Raises NonFiniteSample if the network returns NaN or infinity for noise.
    """
    return Runner(
        checkpoint.in_precision(settings.precision),
        device=device,
        slots=settings.slots or slots,
        exact=settings.exact,
        neighbour=neighbour_of(settings.core_folder),
        give_way=give_way,
    )
