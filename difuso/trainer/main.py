"""The trainer process: takes one training after the other, at the lowest priority, and deletes others meanwhile."""

import fcntl
import logging
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

import redis
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from difuso.jobs.errors import StoreUnavailable
from difuso.jobs.redis.addresses import connect
from difuso.jobs.settings import with_password
from difuso.jobs.trainings.datasets import Datasets
from difuso.jobs.trainings.records import Claim, LeaseLost, Trainings
from difuso.jobs.trainings.states import TrainingFiles
from difuso.worker.settings import WorkerSettings

from ..supervisor.child_processes import ChildProcesses
from ..supervisor.service import stop_signals
from .attempt import Attempt, Trainer
from .deletion import delete

log = logging.getLogger(__name__)

IDLE_SECONDS = 1.0
NICE = 19


def run(settings: WorkerSettings) -> None:
    """Trains until SIGTERM or SIGINT, or until the process that started it is gone; then what runs is saved."""
    parent, trainings = os.getppid(), Trainings(_connect(settings))
    _step_aside()
    work = settings.state_dir / "training"
    work.mkdir(parents=True, exist_ok=True)
    _sweep(work)
    with stop_signals() as signals, ChildProcesses(work) as children:
        trainer = Trainer(
            trainings=trainings,
            datasets=Datasets(settings.store_url),
            files=TrainingFiles(settings.store_url),
            children=children,
            trained_dir=settings.trained_dir,
            device=settings.device,
            is_stopping=lambda: bool(signals) or os.getppid() != parent,
        )
        log.info("waiting for trainings; models go to %s", settings.trained_dir.absolute())
        # A deletion does not wait for the end of a training. One that this process cannot end is the next one's.
        threading.Thread(target=_take, args=(trainer, "delete", delete), daemon=True).start()
        _take(trainer, "", lambda trainer, claim: Attempt(trainer, claim).run())


def _take(trainer: Trainer, asked: Literal["", "delete"], do: Callable[[Trainer, Claim], None]) -> None:
    """Takes one training after the other to run, or to delete, as long as this process goes on."""
    while not trainer.is_stopping():
        try:
            if (claim := trainer.trainings.claim(asked)) is not None:
                do(trainer, claim)
                continue
        except (redis.RedisError, StoreUnavailable, LeaseLost) as error:
            log.warning("waiting for Redis and the store (%s)", type(error).__name__)
        except Exception:  # a fault of one training must not stop the others
            log.exception("a training cannot be read or deleted; trying again")
        time.sleep(IDLE_SECONDS)


def _sweep(work: Path) -> None:
    """Removes what other trainers have left that ended with their machine: nobody locks their folders."""
    for left in work.iterdir():
        with suppress(OSError):
            lock = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)
            finally:
                os.close(lock)


def _step_aside() -> None:
    """Takes only the time of processors that nobody else on this machine wants, for this process and its children.

    Linux lets others take a processor from an idle policy at once, and from a nice process only after its slice. A
    network wakes its threads so often that a picture took twice as long. Linux may share time between sessions first,
    so a trainer that no terminal controls has one of its own.
    """
    os.nice(NICE)
    if sys.platform == "linux":
        with suppress(OSError):  # a sandbox may forbid it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    if not os.isatty(0):
        with suppress(OSError):  # it leads a group already
            os.setsid()
        with suppress(OSError):  # no Linux, or one without groups by session
            Path("/proc/self/autogroup").write_text(str(NICE))


def _connect(settings: WorkerSettings) -> redis.Redis:
    url = with_password(settings.redis_url, settings.redis_password_file)
    retry = Retry(ExponentialBackoff(cap=1, base=0.1), 2)
    return connect(url, socket_timeout=5, socket_connect_timeout=5, retry=retry)
