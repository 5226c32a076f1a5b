"""The progress of long work: a bar on a terminal, log lines elsewhere."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from .terminal import printable

log = logging.getLogger(__name__)

LOG_EVERY = 0.1  # of the work


def title_of(model: str, seed: int | Sequence[int]) -> str:
    """Returns the title of a run of a model; the seed is that of image 0, or there is one for each image."""
    return f"{model}, seed {seed}" if isinstance(seed, int) else f"{model}, {len(seed)} seeds"


@contextmanager
def progress(title: str, *, there: float = 0.0) -> Iterator[Callable[[float], None]]:
    """Yields a function that shows the share of the work done, 0..1; so much was `there` before."""
    console = Console(stderr=True)
    if console.is_terminal:
        with Progress(console=console) as bar:
            task = bar.add_task(escape(printable(title)), total=1.0)
            bar.update(task, completed=there)
            yield lambda share: bar.update(task, completed=share)
        return
    reported = there

    def report(share: float) -> None:
        nonlocal reported
        if share >= reported + LOG_EVERY or share == 1:
            log.info("%s: %.0f %%", title, 100 * share)
            reported = share

    yield report
