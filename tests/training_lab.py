"""A store with a dataset, tiny trainings on it, and trainers as processes of their own."""

from __future__ import annotations

import signal
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from difuso.jobs.trainings.checking import Summary
from difuso.jobs.trainings.datasets import Dataset, Datasets
from difuso.jobs.trainings.records import Order, Training, Trainings
from tests.forking import Command
from tests.icons import write_icons
from tests.serving import ENVIRONMENT
from tests.waiting import wait_until

TINY = (
    *("network.channels=16", "network.channel_mult=[1]", "network.attention_levels=[]", "network.groups=4"),
    *("network.head_channels=16", "image_size=16", "network.patch=1", "batch_size=4", "log_every=1"),
    *("warmup_steps=0", "decay_steps=0", "ema_decay=0.9"),
)
COUNT = 72  # icons, of which 16 are held out
# A trainer of the usual priority: the tests beside it would leave one of the lowest next to nothing.
PROMPT = """
import difuso.trainer.attempt as attempt, difuso.trainer.main as trainer
trainer.NICE = 0
{first}
"""


def ordered(trainings: Trainings, name: str = "cats", **more: Any) -> Order:
    order = Order(id=str(uuid.uuid4()), dataset="icons", name=name, preset="taste", created_at=time.time(), **more)
    assert trainings.create(order)
    return order


def write_dataset(store: str, pictures: Path) -> None:
    summary = Summary(count=COUNT, sizes=(40, 40), classes={}, columns={}, duplicates=0, left_out=(), left_out_count=0)
    now, size = time.time(), pictures.stat().st_size
    dataset = Dataset(name="icons", created_at=now, expires_at=now + 1000, bytes=size, summary=summary)
    Datasets(store).add(dataset, pictures, b"", None)


class Lab:
    """A store with a dataset, a folder or what `more` names, and trainers as processes of their own."""

    def __init__(self, redis_url: str, folder: Path, trainings: Trainings, **more: str) -> None:
        self.folder, self.trainings = folder, trainings
        self.store = folder / "store"
        self.trainers: list[Command] = []
        self._environment = ENVIRONMENT | {
            "REDIS_URL": redis_url,
            "DIFUSO_STORE_URL": str(self.store),
            "DIFUSO_DEVICE": "cpu",
            "DIFUSO_TRAINED_DIR": str(folder / "trained"),
            **more,
        }
        write_dataset(self._environment["DIFUSO_STORE_URL"], write_icons(folder / "icons.zip", COUNT))

    @property
    def log(self) -> str:
        return "".join(path.read_text() for path in sorted(self.folder.glob("trainer*.log")))

    def start(self, first: str = "") -> Command:
        """Starts a trainer on a machine of its own, which executes something first."""
        number = len(self.trainers)
        machine = self._environment | {"DIFUSO_STATE_DIR": str(self.folder / f"machine{number}")}
        log, first = self.folder / f"trainer{number}.log", PROMPT.format(first=first)
        trainer = Command(["trainer"], environment=machine, folder=self.folder, log=log, first=first)
        self.trainers.append(trainer)
        return trainer

    def run_pids(self) -> set[int]:
        """Returns the processes that train in the folder of a machine."""
        found = set()
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError, ValueError):
                if "training" in (path / "cwd").readlink().relative_to(self.folder).parts:
                    found.add(int(path.name))
        return found

    def until(
        self, order: Order, condition: Callable[[Training], object], what: str, *, seconds: float = 120
    ) -> Training:
        def holds() -> bool:
            found = self.trainings.get(order.id)
            assert condition(found) or not found.is_over, (found.state, found.reason, found.log, self.log)
            return bool(condition(found))

        wait_until(holds, timeout=seconds, description=what)
        return self.trainings.get(order.id)

    def close(self) -> None:
        for trainer in self.trainers:
            trainer.terminate()
            trainer.send_signal(signal.SIGCONT)
        for trainer in self.trainers:
            trainer.wait(90)


def tiny(lab: Lab, steps: int, *changes: str, save_every: int = 10) -> Order:
    return ordered(
        lab.trainings, changes=(*TINY, f"max_steps={steps}", f"save_every={save_every}", "sheet_every=50", *changes)
    )
