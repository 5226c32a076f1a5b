"""One trainer's attempt at one training: it fetches, runs, watches, saves and publishes, and gives back what it took.

Everything that takes long runs in a thread, while this one goes on to report: a silent trainer loses its training.
"""

import logging
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import redis

from difuso.jobs.errors import StoreUnavailable
from difuso.jobs.trainings.datasets import DatasetNotFound, Datasets
from difuso.jobs.trainings.records import LEASE_SECONDS, Claim, LeaseLost, Progress, State, Trainings
from difuso.jobs.trainings.states import TrainingFiles
from difuso.model.folders.files import SUMS
from difuso.model.folders.new_folder import new_folder

from ..errors import RunDiverged
from ..supervisor.child_processes import ChildProcesses
from ..supervisor.machine import emptiest_gpu, find_cores
from .run_folder import RunFolder

log = logging.getLogger(__name__)

T = TypeVar("T")

TICK_SECONDS = 0.5
DRAIN_SECONDS = 60.0  # that a run has to finish its step and save
MAX_DEATHS, MAX_LOST = 3, 20  # of a run's processes, and of trainers with them, without anything saved between
SPARE_BYTES, LEAST_BYTES = 1 << 30, 1 << 28  # of the disk: before a run, besides its pictures; and during it
WORTH = 10  # a model is worth serving after this part of the steps
BETTER = 4 / 3  # and the next one after so many times the steps

NO_SPACE = "the disk of the trainer is full; resume the training when there is space"
GONE = "the dataset is not there any more; send it again under its name, and resume the training"


class Failed(Exception):
    """The training cannot go on; the message is for people."""


@dataclass(frozen=True)
class Trainer:
    """What a trainer process has for all its attempts."""

    trainings: Trainings
    datasets: Datasets
    files: TrainingFiles
    children: ChildProcesses
    trained_dir: Path
    device: str
    is_stopping: Callable[[], bool]


class Attempt:
    """An attempt at a training that was claimed."""

    def __init__(self, trainer: Trainer, claim: Claim) -> None:
        self._trainer, self._claim, self._training = trainer, claim, claim.training
        self._asked, self._deaths = "", 0
        self._progress, self._rate = claim.training.progress, claim.training.learning_rate
        self._kept: tuple[int, int] | None = None  # the save that the store has
        self._state = claim.saved  # and its name there
        self._published = 0  # the step of the model that this attempt has published
        self._told_at = time.monotonic()  # when Redis last took a report
        self._pool = ThreadPoolExecutor(1, "trainer")
        self._child: subprocess.Popen[bytes] | None = None
        self._folder: RunFolder | None = None

    def run(self) -> None:
        """Trains until the end, or until something else is asked of the training or of this process."""
        training, fence = self._training, self._claim.fence
        log.info("training %s is mine", training.name, extra={"training_id": training.id, "fence": fence})
        try:
            state, reason = self._outcome()
            self._insist(lambda: self._tell(state, reason))
            log.info("training %s is given back as %s", training.name, self._asked or state)
            if state == "succeeded":  # not before: whoever claims it needs its last state
                with suppress(StoreUnavailable):  # then with the training
                    self._trainer.files.keep(training.id, fence)
        except LeaseLost:  # or it was deleted
            log.warning("training %s is not mine any more", training.name)
        finally:
            if self._child is not None:
                self._child.kill()
                self._child.wait()
            self._pool.shutdown()
            shutil.rmtree(self._trainer.children.folder / training.id, ignore_errors=True)

    def _outcome(self) -> tuple[State, dict[str, str]]:
        """Trains; returns the new state of the training, and the reason of a failure."""
        try:
            self._folder = RunFolder(self._trainer.children.folder / self._training.id, self._training)
            return self._train(self._folder), {}
        except LeaseLost:
            raise
        except Failed as error:
            return "failed", {"reason": str(error)}
        except StoreUnavailable:  # before the run began
            self._while_reporting(lambda: time.sleep(DRAIN_SECONDS / 10))
            return "queued", {}
        except Exception as error:  # a fault of one training must not stop the others
            log.exception("training %s cannot go on", self._training.name)
            return "failed", {"reason": f"the trainer has a fault, which its log tells ({type(error).__name__})"}

    def _train(self, folder: RunFolder) -> State:
        """Runs the training, again after a death or a NaN; returns its new state."""
        if self._claim.lost > MAX_LOST:
            raise Failed(f"{self._claim.lost} trainers died while they ran it; it may need more memory than there is")
        table = self._while_reporting(lambda: self._fetch(folder))
        while not self._asked and not self._trainer.is_stopping():
            status = self._watch(folder, table)
            self._save(folder)
            if status == 0 and self._training.dry_run:
                return "succeeded"
            if status == 0 and self._progress.step >= self._progress.steps > 0:
                self._publish(folder)
                return "succeeded"
            if status == RunDiverged.status:
                self._lower_rate(folder)
            elif status > 0:
                raise Failed(folder.last_lines().strip().rpartition("\n")[2].removeprefix("difuso: "))
            elif status < 0 and not self._trainer.is_stopping():
                self._deaths += 1
                if self._deaths > MAX_DEATHS:
                    killed = f"its process was killed {self._deaths} times ({signal.Signals(-status).name})"
                    raise Failed(f"{killed}; it may need more memory than there is")
        if self._asked in ("pause", "stop"):
            self._publish(folder)
        return "queued"  # or as is asked

    def _fetch(self, folder: RunFolder) -> Path | None:
        """Fills the folder from the store; returns where the table of the pictures is."""
        training = self._training
        try:
            table = self._trainer.datasets.fetch(training.owner, training.dataset, folder.pictures)
        except DatasetNotFound:
            raise Failed(GONE) from None
        if shutil.disk_usage(folder.path).free < 2 * folder.pictures.stat().st_size + SPARE_BYTES:
            raise Failed(NO_SPACE)
        if self._claim.saved:
            try:
                self._trainer.files.restore(training.id, self._claim.saved, folder.state_files())
                folder.take_over()
            except FileNotFoundError:
                log.warning("the state %s of training %s is gone: it begins anew", self._claim.saved, training.name)
                shutil.rmtree(folder.run)
                folder.run.mkdir()
                self._progress = Progress(served=self._progress.served)
        return table

    def _watch(self, folder: RunFolder, table: Path | None) -> int:
        """Runs one process to its end, or until it shall stop; returns its status."""
        gpu = emptiest_gpu(self._trainer.device, os.environ)
        environment = {"OMP_NUM_THREADS": str(max(1, len(find_cores()) - 1)), **os.environ, **gpu}
        command = folder.command(table, self._rate)
        with folder.log.open("ab") as lines:
            child = self._trainer.children.spawn(command, env=environment, folder=folder.path, log=lines)
        self._child = child
        kill_at: float | None = None
        while child.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                child.wait(TICK_SECONDS)
            if self._report():
                self._save(folder)
            if shutil.disk_usage(folder.path).free < LEAST_BYTES:
                raise Failed(NO_SPACE)
            if kill_at is not None:
                if time.monotonic() > kill_at:
                    child.kill()
            elif (asked := self._asked) or self._trainer.is_stopping():
                child.terminate()
                kill_at = time.monotonic() + (0.0 if asked == "delete" else DRAIN_SECONDS)
        self._insist(self._report)  # what comes now counts only if Redis hears of it
        return child.returncode

    def _save(self, folder: RunFolder) -> None:
        """Stores what the run has saved, if it is new, and publishes its model if that is better enough."""
        saved, training, files = folder.saved(), self._training, self._trainer.files
        if saved is None or saved == self._kept or self._asked == "delete":
            return
        state, shown = f"{self._claim.fence}-{saved[0]}", folder.sheets()

        def store() -> None:
            for kind, by_step in shown.items():
                for step in by_step.keys() - set(getattr(self._progress, kind)):
                    files.add_sheet(training.id, kind, step, by_step[step])
            files.save(training.id, state, folder.state_files())

        try:
            self._while_reporting(store)
            before = self._progress.model_dump()
            there = {str(kind): tuple(sorted({*before[kind], *steps})) for kind, steps in shown.items()}
            self._progress = self._progress.model_copy(update=there)
            self._deaths = 0
            if not self._report(saved=state, lost=0, recipe=folder.recipe_text()):
                return
            # And the one before, which a Redis names again that has lost its last second with its machine.
            self._while_reporting(lambda: files.keep(training.id, self._claim.fence, state, self._state))
        except StoreUnavailable:
            log.warning("the store does not take step %d of %s; trying again", saved[0], training.name)
            return
        self._kept, self._state = saved, state
        if saved[0] * WORTH >= self._progress.steps and saved[0] >= BETTER * self._published:
            self._publish(folder)

    def _publish(self, folder: RunFolder) -> None:
        """Serves the model of the run under its name, unless it is served already; raises LeaseLost after a silence."""
        saved = folder.saved()
        if saved is None or saved[0] == self._published:
            return

        def copy() -> None:
            with new_folder(self._trainer.trained_dir / self._training.name) as fresh:
                for path in folder.model.iterdir():
                    if path.name != SUMS:
                        shutil.copyfile(path, fresh / path.name)
                if folder.saved() != saved:
                    raise FileNotFoundError
                if time.monotonic() - self._told_at > LEASE_SECONDS / 2:  # the disk needs some time, too
                    raise LeaseLost

        self._progress = self._progress.model_copy(update={"served": saved[0]})
        self._insist(self._report)  # first, so that nobody deletes the training without its model
        try:
            self._while_reporting(copy)
        except FileNotFoundError:  # the run has just saved a newer one
            return
        self._published = saved[0]
        log.info("model %s is served from step %d on", self._training.name, saved[0])

    def _lower_rate(self, folder: RunFolder) -> None:
        if self._rate is not None:
            raise Failed(
                f"its loss became NaN, and again with the learning rate {self._rate:g}: begin with a lower one"
            )
        self._rate = folder.learning_rate / 2
        self._report(learning_rate=self._rate)
        log.warning("training %s became NaN: from its last state on with half the rate", self._training.name)

    def _while_reporting(self, work: Callable[[], T]) -> T:
        future = self._pool.submit(work)
        while not wait([future], timeout=TICK_SECONDS).done:
            self._report()
        return future.result()

    def _report(self, **fields: object) -> bool:
        """Keeps the training, says how far it is, and hears what is asked; see `_tell`."""
        if self._folder is not None:
            self._progress = self._folder.progress(self._progress)
            fields = {"log": self._folder.last_lines(), **fields}
        return self._tell("running", fields)

    def _insist(self, report: Callable[[], bool]) -> None:
        """Reports as soon as Redis answers; raises LeaseLost if this process must end before, and so the lease."""
        while not report():
            if self._trainer.is_stopping():
                raise LeaseLost
            time.sleep(TICK_SECONDS)

    def _tell(self, state: State, fields: Mapping[str, object]) -> bool:
        """Writes a report; returns False if Redis does not answer. Raises LeaseLost."""
        at, progress = time.monotonic(), self._progress.model_dump_json()
        try:
            self._asked = self._trainer.trainings.report(self._claim, state, progress=progress, **fields)
        except redis.RedisError as error:
            log.warning("no report on training %s (%s)", self._training.name, type(error).__name__)
            return False
        self._told_at = at
        return True
