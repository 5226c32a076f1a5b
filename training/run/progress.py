"""The figures of a run's log, which are means over some steps."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Ranges = Mapping[str, tuple[float, float]]  # of timesteps, by name: the first in it, and the first after it


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
