"""The progress of a run: the figures of its log, and loss, speed and remaining time from its first step on."""

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from torch import Tensor

from ..recipe import Recipe

log = logging.getLogger(__name__)

RECENT = 100  # steps whose mean loss and speed are shown

Ranges = Mapping[str, tuple[float, float]]  # of timesteps, by name: the first in it, and the first after it
Report = Callable[[int, float], None]  # of the number of a step, and its loss


@dataclass(frozen=True, eq=False)
class StepFacts:
    """The results of one optimiser step; tensors on the CPU."""

    loss: Tensor  # weighted mean over the batch, shape ()
    errors: Tensor  # unweighted loss of each image, see `training.objective.losses.Losses.error`, shape (B,)
    t: Tensor  # timestep of each image, shape (B,)
    grad_norm: Tensor  # norm of the gradient before clipping, shape ()
    vlb: Tensor  # estimate of the bound from each image, bits per dimension, shape (B,); 0 if it is not trained
    correct: Tensor  # whether a classifier recognised each image, 0 or 1, shape (B,); NaN for other networks


class Window:
    """Collects steps and averages them."""

    def __init__(self, num_train_timesteps: int) -> None:
        self._ranges = timestep_ranges(num_train_timesteps)
        self.restart()

    def restart(self) -> None:
        """Forgets the steps and starts the clock: what happens between windows does not count as training time."""
        self._steps: list[StepFacts] = []
        self._started = time.perf_counter()

    def add(self, step: StepFacts) -> None:
        self._steps.append(step)

    def close(self) -> dict[str, float]:
        """Returns means over the window: of all timesteps, by quarter of them and for t < 50; starts the next window.

        Skipped steps count only in the time. A window of skipped steps alone has a loss of NaN.
        """
        images = sum(len(step.t) for step in self._steps)
        metrics = {"loss": math.nan, "images_per_second": images / (time.perf_counter() - self._started)}
        taken = [step for step in self._steps if torch.isfinite(step.grad_norm)]
        if taken:
            metrics |= self._means(taken)
        self.restart()
        return metrics

    def _means(self, steps: list[StepFacts]) -> dict[str, float]:
        t = torch.cat([step.t for step in steps])
        correct = torch.cat([step.correct for step in steps])
        vlb = torch.cat([step.vlb for step in steps])
        means = {
            "loss": float(torch.stack([step.loss for step in steps]).mean()),
            "grad_norm": float(torch.stack([step.grad_norm for step in steps]).mean()),
        }
        if vlb.any():
            means["vlb"] = float(vlb.mean())
        means |= means_by_range("loss", torch.cat([step.errors for step in steps]), t, self._ranges)
        if not correct.isnan().any():
            means["accuracy"] = float(correct.mean())
            means |= means_by_range("accuracy", correct, t, self._ranges)
        return means


def timestep_ranges(num_train_timesteps: int) -> dict[str, tuple[float, float]]:
    """The quarters of the timesteps, q1 … q4, and those below 50: the first of each, and the first after it."""
    quarter = num_train_timesteps / 4
    return {f"q{i + 1}": (i * quarter, (i + 1) * quarter) for i in range(4)} | {"t<50": (0, 50)}


def means_by_range(name: str, values: Tensor, t: Tensor, ranges: Ranges) -> dict[str, float]:
    """The means of a value over the images whose timestep lies in a range, as `name/range`, for ranges with images."""
    inside = {f"{name}/{key}": (t >= low) & (t < high) for key, (low, high) in ranges.items()}
    return {key: float(values[rows].mean()) for key, rows in inside.items() if rows.any()}


class Pace:
    """The mean loss and the speed of the last steps."""

    def __init__(self, recipe: Recipe) -> None:
        self._recipe = recipe
        # Of the ends of steps: the first compiles, and is no measure.
        self._times: deque[float] = deque(maxlen=RECENT + 1)
        self._losses: deque[float] = deque(maxlen=RECENT)

    def after(self, step: int, loss: float) -> str:
        """Returns words about the run after a step of this loss."""
        self._times.append(time.perf_counter())
        self._losses.append(loss)
        line = f"loss {sum(self._losses) / len(self._losses):.4f}"
        if len(self._times) == 1:
            return line
        speed = (len(self._times) - 1) / max(self._times[-1] - self._times[0], 1e-6)  # steps per second
        left = (self._recipe.max_steps - step) / speed
        return f"{line}  {speed * self._recipe.batch_size:.3g} images/s  {timedelta(seconds=round(left))} left"


@contextmanager
def reporting(recipe: Recipe, begun: int) -> Iterator[Report]:
    """Yields a function that is called after each step: it moves a bar on a terminal, and logs lines elsewhere.

    Lines come every `log_every` steps, and after the first two that follow `begun` earlier ones.
    """
    pace, console = Pace(recipe), Console()
    if not console.is_terminal:

        def line(step: int, loss: float) -> None:
            words = pace.after(step, loss)
            if step <= begun + 2 or step % recipe.log_every == 0:
                log.info("step %d of %d  %s", step, recipe.max_steps, words)

        yield line
        return
    columns = (TextColumn(recipe.name), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("the first step takes longest", total=recipe.max_steps, completed=begun)
        yield lambda step, loss: bar.update(task, completed=step, description=pace.after(step, loss))
