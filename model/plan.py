"""The plan: every sampler is a table with one row per network call.

A row tells the network its timestep t and then, with `out` the network's output and z standard normal,

    x0  = clip(X0_X * x_t + X0_OUT * out)
    x'  = A * x_t + B * x0 + C * x0_previous + S * z          z is drawn only where S is not 0

The first line undoes the prediction type, the second is the sampler. Samplers differ only in these numbers, so a batch
may mix rows of any plans.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal, get_args

import numpy as np

from .errors import PlanError
from .samplers import SAMPLERS, Transition
from .schedule import NoiseSchedule
from .spacing import space_timesteps

Prediction = Literal["eps", "x0", "v"]
Variance = Literal["fixed_small", "fixed_large"]

# Ancestral sampling with beta as its variance adds far too much noise on a coarse chain: FID 46 at 100 steps where
# fixed_small has 11 (CIFAR-10). Below this many steps it is refused rather than served.
FIXED_LARGE_MIN_STEPS = 500


class Column(IntEnum):
    """Columns of `Plan.table`."""

    X0_X = 0
    X0_OUT = 1
    A = 2
    B = 3
    C = 4
    S = 5
    CLIP = 6  # x0 is clamped to [-CLIP, CLIP]; infinity where clipping is off


@dataclass(frozen=True, eq=False)
class Plan:
    """One sampling run.

    Attributes:
        timesteps: what the network is told, in the order of the calls (falling), shape (K,).
        table: float64, shape (K, 7), one row per call; see `Column`.
    """

    timesteps: tuple[int, ...]
    table: np.ndarray[tuple[int, int], np.dtype[np.float64]]

    def __len__(self) -> int:
        return len(self.timesteps)


def make_plan(
    schedule: NoiseSchedule,
    *,
    sampler: str = "ddim",
    steps: int = 50,
    spacing: str = "leading",
    eta: float = 0.0,
    variance: Variance = "fixed_small",
    prediction: Prediction = "eps",
    clip: bool = True,
    start: int | None = None,
) -> Plan:
    """The table of coefficients of one sampling run.

    Args:
        schedule: the schedule that the network was trained with.
        sampler: a key of `SAMPLERS`.
        steps: number of network calls, 1..T (1..start+1 when the run starts in the middle).
        spacing: which timesteps are visited: `linspace`, `leading` or `trailing`.
        eta: stochasticity of DDIM, 0..1; 1 equals ancestral sampling with `fixed_small`.
        variance: of ancestral sampling, `fixed_small` (posterior variance) or `fixed_large` (beta).
        prediction: what the network outputs: the noise, the clean image, or v = sqrt(abar) eps - sqrt(1-abar) x0.
        clip: clamp the predicted x0 to [-1, 1].
        start: begin at this timestep instead of T-1, whatever the spacing; the rest is spaced over 0..start.

    Raises:
        PlanError: if no such run exists; the message names the parameter and its limits.
    """
    if sampler not in SAMPLERS:
        raise PlanError(f"unknown sampler {sampler!r}: choose one of {', '.join(SAMPLERS)}")
    if not 0.0 <= eta <= 1.0:
        raise PlanError(f"eta must lie between 0 and 1, got {eta}")
    if eta and sampler != "ddim":
        raise PlanError(f"eta is a parameter of ddim; {sampler} has none")
    if variance not in get_args(Variance):
        raise PlanError(f"unknown variance {variance!r}: choose one of {', '.join(get_args(Variance))}")
    total = schedule.num_train_timesteps
    if start is not None and not 0 <= start < total:
        raise PlanError(f"start must lie between 0 and {total - 1}, got {start}")

    span = total if start is None else start + 1
    timesteps = space_timesteps(spacing, steps, span)
    if start is not None:
        timesteps = (*timesteps[:-1], start)
    fewest = min(FIXED_LARGE_MIN_STEPS, span)
    if sampler == "ddpm" and variance == "fixed_large" and steps < fewest:
        raise PlanError(f"variance fixed_large needs at least {fewest} steps, got {steps}; use fixed_small below")
    chain = schedule.respace(timesteps)
    transitions = SAMPLERS[sampler](chain, eta=eta, variance=variance)
    rows = [
        (*_x0_from_output(abar, prediction), t.a, t.b, t.c, t.s, 1.0 if clip else np.inf)
        for abar, t in zip(chain.alphas_cumprod, transitions, strict=True)
    ]
    table = np.array(rows[::-1], dtype=np.float64)
    table.flags.writeable = False
    return Plan(timesteps[::-1], table)


def _x0_from_output(abar: float, prediction: Prediction) -> tuple[float, float]:
    """x0 as a combination of (x_t, output)."""
    signal, spread = float(np.sqrt(abar)), float(np.sqrt(1.0 - abar))
    if prediction == "eps":
        if not signal:
            raise PlanError("prediction eps says nothing where no image is left (beta = 1): such a model needs v or x0")
        return 1.0 / signal, -spread / signal
    if prediction == "v":
        return signal, -spread
    if prediction == "x0":
        return 0.0, 1.0
    raise PlanError(f"unknown prediction {prediction!r}: choose eps, x0 or v")


__all__ = ["Column", "Plan", "Prediction", "Transition", "Variance", "make_plan"]
