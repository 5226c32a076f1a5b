"""The progress of a run, from its first step on: loss, speed and remaining time."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ..recipe import Recipe
from .trainer import Trainer

log = logging.getLogger(__name__)

RECENT = 100  # steps whose mean loss and speed are shown

Report = Callable[[float], None]


class Pace:
    """The mean loss and the speed of the last steps.

    Args:
        clock: returns seconds that only grow.
    """

    def __init__(self, recipe: Recipe, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._recipe = recipe
        self._clock = clock
        # Of the ends of steps: the first compiles, and is no measure.
        self._times: deque[float] = deque(maxlen=RECENT + 1)
        self._losses: deque[float] = deque(maxlen=RECENT)

    def after(self, step: int, loss: float) -> str:
        """Returns words about the run after a step of this loss."""
        self._times.append(self._clock())
        self._losses.append(loss)
        line = f"loss {sum(self._losses) / len(self._losses):.4f}"
        if len(self._times) == 1:
            return line
        speed = (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-6)  # steps per second
        left = (self._recipe.max_steps - step) / speed
        return f"{line}  {speed * self._recipe.batch_size:.3g} images/s  {timedelta(seconds=round(left))} left"


@contextmanager
def reporting(trainer: Trainer) -> Iterator[Report]:
    """Yields a function that takes the loss of each step: it moves a bar on a terminal, and logs lines elsewhere.

    Lines come after the first two steps and every `log_every` steps. Only the first of several processes reports.
    """
    recipe, console = trainer.recipe, Console()
    if not trainer.processes.first:
        yield lambda loss: None
        return
    pace, began = Pace(recipe), trainer.step
    if not console.is_terminal:

        def line(loss: float) -> None:
            words = pace.after(trainer.step, loss)
            if trainer.step <= began + 2 or trainer.step % recipe.log_every == 0:
                log.info("step %d of %d  %s", trainer.step, recipe.max_steps, words)

        yield line
        return
    columns = (TextColumn(recipe.name), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("the first step takes longest", total=recipe.max_steps, completed=trainer.step)
        yield lambda loss: bar.update(task, completed=trainer.step, description=pace.after(trainer.step, loss))
