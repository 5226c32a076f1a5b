"""The progress of long work: a bar on a terminal, log lines elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

log = logging.getLogger(__name__)

LOG_EVERY = 0.1  # of the work


def title_of(model: str, seed: int | Sequence[int]) -> str:
    """Returns the title of a run of a model; the seed is that of image 0, or there is one for each image."""
    return f"{model}, seed {seed}" if isinstance(seed, int) else f"{model}, {len(seed)} seeds"


@contextmanager
def progress(title: str) -> Iterator[Callable[[float], None]]:
    """Yields a function that shows the share of the work done, 0..1."""
    console = Console(stderr=True)
    if console.is_terminal:
        with Progress(console=console) as bar:
            task = bar.add_task(title, total=1.0)
            yield lambda share: bar.update(task, completed=share)
        return
    told = 0.0

    def tell(share: float) -> None:
        nonlocal told
        if share >= told + LOG_EVERY or share == 1.0:
            log.info("%s: %.0f %%", title, 100 * share)
            told = share

    yield tell


@contextmanager
def image_progress(title: str, total: int, there: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that shows the number of finished images, their speed and the remaining time.

    So many images were `there` before.
    """
    began = time.monotonic()

    def pace(now: int) -> str:
        rate = (now - there) / max(time.monotonic() - began, 1e-3)
        return f"{rate:.3g} images/s, {timedelta(seconds=round((total - now) / rate))} left" if now > there else ""

    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[pace]}"),
        )
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(title, total=total, completed=there, pace="")
            yield lambda now: bar.update(task, completed=now, pace=pace(now))
        return
    told = there

    def tell(now: int) -> None:
        nonlocal told
        if now >= told + LOG_EVERY * total or now == total:
            log.info("%s: %d of %d images, %s", title, now, total, pace(now))
            told = now

    yield tell
