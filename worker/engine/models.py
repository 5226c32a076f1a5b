"""The models of some folders: loads them, warms them up, and adds newer versions while the worker runs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from difuso.jobs.model_folders import Mark, mark_of, model_folders, newest_first, passed_over
from difuso.model.checkpoint import Checkpoint, load_checkpoint
from difuso.model.errors import ForeignError, ModelError, may_pass, reason_of
from difuso.model.folders.files import model_of, ref_of
from difuso.model.formats.folders import holds_config, read_config, read_version

from ..device.cores import core_of, neighbour_of, use_all_cores
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
    """Why a folder could not be loaded."""

    reason: str
    version: str | None  # of the model in it; None if that is unknown


@dataclass(frozen=True)
class Folder:
    """A folder that was loaded or refused."""

    mark: Mark  # of its files then
    ref: str | None = None  # of the version that it holds, or held before it was refused
    refused: Refused | None = None
    # when the same files are tried again, on the monotonic clock
    again_at: float = math.inf


@dataclass(frozen=True)
class Models:
    """The models that a worker serves, in one or more versions each."""

    runners: Mapping[str, Runner] = field(default_factory=dict)  # the versions that are warm, by ref
    folders: Mapping[str, Folder] = field(default_factory=dict)  # by name, also those that are gone
    seen: Mapping[str, Mark] = field(default_factory=dict)  # the marks of all folders at the last look, by name

    @property
    def coming(self) -> set[str]:
        """The models of which a folder has been seen and is neither loaded nor refused yet."""
        return {model_of(folder) for folder in self.seen.keys() - self.folders.keys()}

    @property
    def refused(self) -> dict[str, Refused]:
        """The folders that could not be loaded, by name."""
        return {name: folder.refused for name, folder in self.folders.items() if folder.refused is not None}

    def newest(self, model: str) -> str | None:
        """Returns the ref of the newest version of a model; None if there is none."""
        refs = self._refs(model)
        return refs[0] if refs else None

    @property
    def superseded(self) -> set[str]:
        """The refs of the versions that no folder holds any longer, which are served until their jobs are done."""
        models = {model_of(ref) for ref in self.runners}
        return self.runners.keys() - {ref for model in models for ref in self._refs(model)}

    def _refs(self, model: str) -> list[str]:
        """Returns the versions in the folders of a model that are there, or without any in those that were.

        The first is the newest.
        """
        held = [name for name, folder in self.folders.items() if model_of(name) == model and folder.ref]
        there = [name for name in held if name in self.seen] or held
        there.sort(key=lambda name: newest_first(name, self.folders[name].mark))
        return [ref for name in there if (ref := self.folders[name].ref)]


class ModelFollower:
    """Loads the models of a folder, and newer versions of them while jobs run.

    A folder is loaded only if it has not changed since the last look, so that a half-written one is left alone. The
    version before is kept beside the new one, and also if that is refused or the folder is gone: there may be jobs for
    it. A folder that was renamed is not loaded again. One that was refused because the disk or the memory failed is
    tried again at later looks.

    Attributes:
        models: the models that the worker can serve now, each as soon as it is warm.
        has_jobs: function that returns whether jobs are running, to which the warm-up gives way.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.models = Models()
        self.has_jobs: Callable[[], bool] = lambda: False
        self._settings = settings
        self._device = pick_device(settings.device)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._looking: Future[None] | None = None
        self._closed = False

    def load_first(self) -> None:
        """Loads the first model that can be loaded: the default model, or else the first by name."""
        for folder in self._settings.models_dirs:
            for name, reason in passed_over(folder).items():
                log.warning("the folder %s is passed over: %s", (folder / name).absolute(), reason)
        # A folder that changes from now on is left to the next look.
        self.models = Models(seen={name: mark_of(path) for name, path in self._paths().items()})
        for _ in self._load():
            if self.models.runners:
                break

    def load_all(self) -> None:
        """Loads the folders that are still to come, have changed or are to be tried again."""
        for _ in self._load():
            pass

    def look(self) -> None:
        """Calls `load_all` in a thread of its own, unless the last call still runs.

        Raises torch.AcceleratorError if the device was lost during the last call.
        """
        if self._looking is not None:
            if not self._looking.done():
                return
            self._looking.result()
        self._looking = self._pool.submit(self.load_all)

    def forget(self, refs: Collection[str]) -> None:
        """Lets go of superseded versions, unless models are being loaded, which changes `models` at the same time."""
        if self._looking is None or self._looking.done():
            gone = self.models.superseded.intersection(refs)
            kept = {ref: runner for ref, runner in self.models.runners.items() if ref not in gone}
            self.models = replace(self.models, runners=kept)

    def close(self) -> None:
        """Stops the thread without waiting for it; it loads no further model."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _load(self) -> Iterator[None]:
        """Loads what is to be loaded, folder by folder."""
        try:
            paths = self._paths()
            marks = {name: mark_of(path) for name, path in paths.items()}
        except OSError as error:
            log.warning("the models folder cannot be read: %s", error.strerror)
            return
        unchanged = [name for name, mark in marks.items() if mark == self.models.seen.get(name)]
        self.models = replace(self.models, seen=marks)
        for name in sorted(unchanged, key=lambda name: model_of(name) != self._settings.default_model):
            before = self.models.folders.get(name)
            if self._closed:
                return
            if before is None or before.mark != marks[name] or time.monotonic() >= before.again_at:
                self._load_folder(paths[name], marks[name], before)
                yield

    def _paths(self) -> dict[str, Path]:
        """Returns the folders that may be models, by name; those to be loaded first come first."""
        return {path.name: path for path in model_folders(*self._settings.models_dirs)}

    def _load_folder(self, path: Path, mark: Mark, before: Folder | None) -> None:
        """Loads or refuses a folder; `before` is what is known of it."""
        name, started, runners = path.name, time.monotonic(), self.models.runners
        held, version = before.ref if before else None, _version(path)
        ref = ref_of(model_of(name), version or "")
        try:
            if ref in runners and ref != held:  # it is that of a folder that was renamed
                runner = runners[ref]
            else:
                # Its OpenMP threads end with it.
                with ThreadPoolExecutor(1, "loader", initializer=use_all_cores) as pool:
                    runner = pool.submit(self._warm, path).result()
        except torch.AcceleratorError:
            raise
        except Exception as error:  # an error of one model must not stop the others
            if self._closed:  # the process may end, in which no more threads can start
                return
            now = Folder(mark, held, Refused(reason_of(error), version), _next_try(error, started))
            if before is None or (before.mark, before.refused) != (mark, now.refused):
                how = "refused" if now.again_at == math.inf else "refused for now"
                ours = isinstance(error, ModelError | OSError) and not isinstance(error, ForeignError)
                level = logging.ERROR if holds_config(path) else logging.DEBUG  # it was not meant to be a model
                log.log(level, "model %s is %s: %s", name, how, reason_of(error), exc_info=not ours)
        else:
            ref = ref_of(model_of(name), runner.checkpoint.version)
            now, runners = Folder(mark, ref), {**runners, ref: runner}
        self.models = replace(self.models, runners=runners, folders={**self.models.folders, name: now})

    def _warm(self, folder: Path) -> Runner:
        core = core_of(self._settings.core_folder)
        core.take()  # so that the neighbour's calls neither take longer nor disturb what is measured
        try:
            checkpoint = load_checkpoint(folder, networks=self._settings.networks)
            runner = make_runner(checkpoint, self._settings, device=self._device, give_way=self._give_way)
        finally:
            core.leave()
        how = f"batches of {','.join(map(str, runner.buckets))} in {runner.precision}"
        log.info("model %s is warm on %s: %s, %.0f image-steps/s", folder.name, self._device, how, runner.rate)
        if (replaced := checkpoint.config.instead_of) is not None:
            log.warning("model %s draws by %s instead of %s", folder.name, checkpoint.config.defaults.sampler, replaced)
        return runner

    def _give_way(self) -> None:
        until = time.monotonic() + GIVE_WAY_SECONDS
        while self.has_jobs() and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)


def _version(folder: Path) -> str | None:
    """Returns the version of the model in a folder; None if that is unknown."""
    try:
        return read_version(folder, read_config(folder))
    except Exception:  # of whatever kind: to load the folder fails as well, and says why
        return None


def _next_try(error: Exception, started: float) -> float:
    """Returns when a folder that failed is tried again; infinity if its files are at fault."""
    if not may_pass(error) and not isinstance(error, torch.OutOfMemoryError):
        return math.inf
    now = time.monotonic()
    return now + REST * (now - started)


def make_runner(
    checkpoint: Checkpoint,
    settings: WorkerSettings,
    *,
    device: torch.device,
    slots: int | None = None,
    give_way: Callable[[], None] = lambda: None,
) -> Runner:
    """Makes a runner as the settings want it; `slots` counts where they name none. See `Runner`."""
    return Runner(
        checkpoint.in_precision(settings.precision),
        device=device,
        slots=settings.slots or slots,
        exact=settings.exact,
        neighbour=neighbour_of(settings.core_folder),
        give_way=give_way,
    )
