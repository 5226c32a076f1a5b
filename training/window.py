"""The stretch of a run between two lines of its log."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class StepFacts:
    """What one optimiser step was like; tensors on the CPU.

    Attributes:
        loss: weighted mean over the batch, shape ().
        errors: unweighted mean squared error of each image, shape (B,).
        t: timestep of each image, shape (B,).
        grad_norm: before clipping, shape ().
    """

    loss: Tensor
    errors: Tensor
    t: Tensor
    grad_norm: Tensor


class Window:
    """Collects steps, and what they were on average.

    Args:
        num_train_timesteps: T, of the schedule.
    """

    def __init__(self, num_train_timesteps: int) -> None:
        quarter = num_train_timesteps / 4
        self._ranges = {f"loss/q{i + 1}": (i * quarter, (i + 1) * quarter) for i in range(4)} | {"loss/t<50": (0, 50)}
        self.restart()

    def restart(self) -> None:
        """Forgets the steps and starts the clock: what happens between windows does not count as training time."""
        self._steps: list[StepFacts] = []
        self._started = time.perf_counter()

    def add(self, step: StepFacts) -> None:
        self._steps.append(step)

    def close(self) -> dict[str, float]:
        """Means over the window, of all timesteps, by quarter of them and near t = 0; starts the next window."""
        errors = torch.cat([step.errors for step in self._steps])
        t = torch.cat([step.t for step in self._steps])
        metrics = {
            "loss": float(torch.stack([step.loss for step in self._steps]).mean()),
            "grad_norm": float(torch.stack([step.grad_norm for step in self._steps]).mean()),
            "images_per_second": len(errors) / (time.perf_counter() - self._started),
        }
        for name, (low, high) in self._ranges.items():
            inside = (t >= low) & (t < high)
            if inside.any():
                metrics[name] = float(errors[inside].mean())
        self.restart()
        return metrics
