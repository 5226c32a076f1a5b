"""The progress of long work: a bar on a terminal, log lines elsewhere."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn

log = logging.getLogger(__name__)

LOG_EVERY = 0.1  # of the work


def title_of(model: str, seed: int | Sequence[int]) -> str:
    """Returns the title of a run of a model; the seed is that of image 0, or there is one for each image."""
    return f"{model}, seed {seed}" if isinstance(seed, int) else f"{model}, {len(seed)} seeds"


@contextmanager
def progress(title: str) -> Iterator[Callable[[float], None]]:
    """Yields a function that shows the share of the work done, 0..1."""
    with _shown(title, lambda share: f"{100 * share:.0f} %", Progress.get_default_columns()) as show:
        yield show


@contextmanager
def image_progress(title: str, total: int, there: int) -> Iterator[Callable[[int], None]]:
    """Yields a function that shows the number of finished images, their speed and the remaining time.

    So many images were `there` before.
    """
    began = time.monotonic()

    def words(now: float) -> str:
        done = f"{now} of {total} images"
        rate = (now - there) / max(time.monotonic() - began, 1e-3)
        left = timedelta(seconds=round((total - now) / rate)) if now > there else None
        return done if left is None else f"{done}, {rate:.3g} images/s, {left} left"

    columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}")
    with _shown(title, words, columns, total=total, there=there) as show:
        yield show


@contextmanager
def _shown(
    title: str, words: Callable[[float], str], columns: Sequence[ProgressColumn], *, total: float = 1.0, there: int = 0
) -> Iterator[Callable[[float], None]]:
    console = Console(stderr=True)
    if console.is_terminal:
        with Progress(*columns, console=console) as bar:
            task = bar.add_task(title, total=total, completed=there, words="")
            yield lambda now: bar.update(task, completed=now, words=words(now))
        return
    told: float = there

    def tell(now: float) -> None:
        nonlocal told
        if now >= told + LOG_EVERY * total or now == total:
            log.info("%s: %s", title, words(now))
            told = now

    yield tell
