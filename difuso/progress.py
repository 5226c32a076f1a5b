"""The progress of long work: a bar on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress

log = logging.getLogger(__name__)

LOG_EVERY = 0.1  # of the work


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
