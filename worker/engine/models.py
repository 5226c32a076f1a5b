"""The models of some folders: loads them, warms them up, and adds newer versions while the worker runs."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from difuso.jobs.model_folders import Mark, mark_of, model_folders, passed_over
from difuso.model.checkpoint import Checkpoint, load_checkpoint
from difuso.model.errors import ForeignError, ModelError, may_pass, reason_of
from difuso.model.folders.config import ModelConfig
from difuso.model.folders.files import CLASSIFIER, WEAKER, model_of, read_shapes, ref_of
from difuso.model.formats.folders import holds_config, read_config, read_version, weights_of
from difuso.model.memory import give_back
from difuso.model.networks.layers import PACKED_BYTES

from ..device.cores import core_of, neighbour_of, use_all_cores
from ..settings import WorkerSettings
from ..stepping.batched_network import WarmUp
from ..stepping.runner import Runner, pick_device
from .served_models import Folder, Known, Models, Refused

log = logging.getLogger(__name__)

# The pause before the same files are tried again, in durations of the failed try. Each try takes cores and memory from
# the served models, and a card that is too small for two versions stays too small.
REST = 10
# How long the warm-up of each batch size waits for running jobs at most, because some workers always have jobs.
GIVE_WAY_SECONDS, LOOK_SECONDS = 0.5, 0.02
AWAIT_SECONDS = 2.0  # between two looks for a first model


class ModelFollower:
    """Loads the models of a folder, and newer versions of them while jobs run.

    A folder is loaded only if it has not changed since the last look, so that a half-written one is left alone. The
    version before is kept beside the new one, and also if that is refused or the folder is gone: there may be jobs for
    it. A folder that was renamed is not loaded again. One that was refused because the disk or the memory failed is
    tried again at later looks. With a bound of memory only one model is loaded at first, and those that stay; the
    others when `exchange` is called.

    Attributes:
        models: the models that the worker can serve now, each as soon as it is warm.
        has_jobs: function that returns whether jobs are running, to which the warm-up gives way.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self.models = Models(bound=settings.models_memory or math.inf, pinned=settings.preload)
        self.has_jobs: Callable[[], bool] = lambda: False
        self._settings = settings
        self._device = pick_device(settings.device)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="models")
        self._task: Future[None] | None = None
        self._closed = False

    def load_first(self) -> None:
        """Loads the first model that can be loaded: the default model, or else the first by name.

        With a bound of memory it loads all models that stay, or else that one. As long as there is none, it awaits the
        models of DIFUSO_MODELS.
        """
        for folder in self._settings.models_dirs:
            for name, reason in passed_over(folder).items():
                log.warning("the folder %s is passed over: %s", (folder / name).absolute(), reason)
        # A folder that changes from now on is left to the next look.
        self.models = replace(self.models, seen={name: mark_of(path) for name, path in self._paths().items()})
        wanted = self._settings.models
        for name in sorted((wanted | self._settings.preload).difference(map(model_of, self.models.seen))):
            setting = "DIFUSO_MODELS" if name in wanted else "DIFUSO_PRELOAD"
            log.warning("there is no folder of the model %s, which %s names", name, setting)
        while True:
            for _ in self._load():
                if self.models.runners and not self._is_bounded:
                    break
            if self.models.runners or self.models.loadable or wanted <= set(map(model_of, self.models.folders)):
                break
            time.sleep(AWAIT_SECONDS)
        for ref in self.models.loadable:  # those that stay come first
            if self.models.keeps(ref) or not self.models.runners:
                self._load_ref(ref)

    def load_all(self) -> None:
        """Loads the folders that are still to come, have changed or are to be tried again."""
        for _ in self._load():
            pass

    def look(self) -> None:
        """Calls `load_all` in a thread of its own, unless the last call still runs.

        Raises torch.AcceleratorError if the device was lost during the last call.
        """
        if not self.is_busy:
            if self._task is not None:
                self._task.result()
            self._task = self._pool.submit(self.load_all)

    @property
    def is_busy(self) -> bool:
        """Whether it looks at the folders or loads models, so that `models` may change at any time."""
        return self._task is not None and not self._task.done()

    def unload(self, refs: Collection[str]) -> None:
        """Lets go of versions that run no jobs and can be loaded again; not while it is busy."""
        runners = self.models.runners
        known = {ref: replace(self.models.known[ref], warm_up=runners[ref].warm_up) for ref in refs}
        kept = {ref: runner for ref, runner in runners.items() if ref not in known}
        self.models = replace(self.models, runners=kept, known={**self.models.known, **known})
        log.info("unloaded %s", ", ".join(refs))

    def load(self, ref: str) -> None:
        """Loads a version that is `loadable`, in a thread of its own; not while it is busy."""
        self.models = replace(self.models, loading=ref)
        self._task = self._pool.submit(self._load_ref, ref)

    def forget(self, refs: Collection[str]) -> None:
        """Lets go of superseded versions, unless models are being loaded, which changes `models` at the same time."""
        if not self.is_busy:
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
        for name in sorted(unchanged, key=self._turn):
            before = self.models.folders.get(name)
            if self._closed:
                return
            if before is None or before.mark != marks[name] or time.monotonic() >= before.again_at:
                (self._note if self._is_bounded else self._load_folder)(paths[name], marks[name], before)
                yield

    @property
    def _is_bounded(self) -> bool:
        return self.models.bound < math.inf

    def _turn(self, name: str) -> tuple[bool, bool]:
        """Returns a key that sorts folders: those that stay, then those of the default model, then others."""
        return model_of(name) not in self._settings.preload, model_of(name) != self._settings.default_model

    def _note(self, path: Path, mark: Mark, before: Folder | None) -> None:
        """Notes the version in a folder, and what it takes, so that it can be loaded."""
        name, started, version = path.name, time.monotonic(), None
        try:
            version = read_version(path, config := read_config(path))
            now = Folder(mark, ref_of(model_of(name), version), version=version, bytes=self._most_bytes(path, config))
            noted = replace(self.models, folders={**self.models.folders, name: now})
            if not noted.fit([ref_of(model_of(name), version)]):
                raise ModelError(
                    f"it takes up to {now.bytes:,} bytes, which do not fit into DIFUSO_MODELS_MEMORY beside those of "
                    "DIFUSO_PRELOAD"
                )
            self.models = noted
        except Exception as error:
            self._refuse(path, mark, before, Refused(reason_of(error), version), error, _next_try(error, started))

    def _most_bytes(self, path: Path, config: ModelConfig) -> int:
        """Returns the bytes that the weights in a folder take at most: in float32, and again as a CPU wants them."""
        guides = {CLASSIFIER: config.classifier, WEAKER: config.weaker}
        files = [weights_of(path), *(file for file, guide in guides.items() if guide is not None)]
        sizes = [4 * sum(map(math.prod, read_shapes(path, file).values())) for file in files]
        packed = PACKED_BYTES if self._device.type == "cpu" else 0
        return sum(size + min(size, packed) for size in sizes)

    def _load_ref(self, ref: str) -> None:
        """Loads the folder of a version, unless it has changed, which is left to the next look."""
        give_back()  # what was unloaded before
        try:
            name = self.models.loadable[ref]
            with suppress(OSError):  # of the models folder, which the next look names
                path, noted = self._paths().get(name), self.models.folders[name]
                if path is not None and mark_of(path) == noted.mark:
                    self._load_folder(path, noted.mark, noted)
        finally:
            self.models = replace(self.models, loading=None)

    def _paths(self) -> dict[str, Path]:
        """Returns the folders that may be models that the worker serves, by name."""
        found = model_folders(*self._settings.models_dirs)
        return {path.name: path for path in found if self._settings.serves(model_of(path.name))}

    def _load_folder(self, path: Path, mark: Mark, before: Folder | None) -> None:
        """Loads or refuses a folder; `before` is what is known of it."""
        name, started, runners, known = path.name, time.monotonic(), self.models.runners, self.models.known
        held, version = before.ref if before else None, _version(path)
        ref = ref_of(model_of(name), version or "")
        try:
            if ref in runners and ref != held:  # it is that of a folder that was renamed
                runner = runners[ref]
            else:
                # Its OpenMP threads end with it.
                with ThreadPoolExecutor(1, "loader", initializer=use_all_cores) as pool:
                    earlier = known[ref].warm_up if ref in known else None
                    runner = pool.submit(self._warm, path, earlier).result()
        except torch.AcceleratorError:
            raise
        except Exception as error:  # an error of one model must not stop the others
            if not self._closed:  # the process may end, in which no more threads can start
                self._refuse(path, mark, before, Refused(reason_of(error), version), error, _next_try(error, started))
        else:
            version = runner.checkpoint.version
            ref = ref_of(model_of(name), version)
            now = Folder(mark, ref, version=version, bytes=before.bytes if before else 0)
            took = Known(runner.bytes, time.monotonic() - started, runner.warm_up)
            self.models = replace(
                self.models,
                runners={**runners, ref: runner},
                folders={**self.models.folders, name: now},
                known={**known, ref: took},
            )

    def _refuse(
        self, path: Path, mark: Mark, before: Folder | None, why: Refused, error: Exception, again_at: float
    ) -> None:
        """Notes why a folder cannot be loaded, and logs it once."""
        if before is None or (before.mark, before.refused) != (mark, why):
            how = "refused" if again_at == math.inf else "refused for now"
            ours = isinstance(error, ModelError | OSError) and not isinstance(error, ForeignError)
            level = logging.ERROR if holds_config(path) else logging.DEBUG  # it was not meant to be a model
            log.log(level, "model %s is %s: %s", path.name, how, why.reason, exc_info=not ours)
        now = Folder(mark, before.ref if before else None, why, again_at, before.version if before else None)
        self.models = replace(self.models, folders={**self.models.folders, path.name: now})

    def _warm(self, folder: Path, known: WarmUp | None) -> Runner:
        core = core_of(self._settings.core_folder)
        core.take()  # so that the neighbour's calls neither take longer nor disturb what is measured
        try:
            checkpoint = load_checkpoint(folder, networks=self._settings.networks)
            runner = make_runner(checkpoint, self._settings, device=self._device, give_way=self._give_way, known=known)
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
    known: WarmUp | None = None,
) -> Runner:
    """Makes a runner as the settings want it; `slots` counts where they name none. See `Runner`."""
    return Runner(
        checkpoint.in_precision(settings.precision),
        device=device,
        slots=settings.slots or slots,
        exact=settings.exact,
        neighbour=neighbour_of(settings.core_folder),
        give_way=give_way,
        known=known,
    )
