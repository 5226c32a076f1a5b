"""Denoising diffusion restoration models (Kawar et al. 2022): images that agree with a measurement y = H x + sigma z.

In the coordinates of the degradation each step treats every coordinate alone. For coordinates that are not measured it
is a row of a plan like any other. A restoration only replaces the measured coordinates of that row's result, so it
shares the network call with all other jobs. The eta_b of the publication is always 1: coordinates whose measurement is
less noisy than the step are taken as measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from .guidance import UNGUIDED, Guidance
from .memory import upload
from .operators import Operator
from .plans.clipping import Clipping
from .plans.plan import Plan, tabulate
from .plans.prediction import Prediction
from .plans.samplers.transition import Transition
from .plans.schedule import FloatTable, NoiseSchedule
from .plans.settings import RESTORATION_ETA as ETA
from .plans.spacing import ends_at_noise, visit_levels


@dataclass(frozen=True, eq=False)
class Restoration:
    """A measurement that a trajectory has to agree with."""

    plan: Plan  # the plan of the coordinates that are not measured; `agree` corrects its x'
    operator: Operator  # the degradation
    measured: Tensor  # the measured coordinates, shape (C, H, W)
    noise: Tensor  # standard deviation of each measured coordinate, infinite where nothing is measured, shape (C, H, W)
    sigmas: FloatTable  # noise of x / sqrt(abar) before each row and after the last, falling, shape (K + 1,)

    def begin(self, z: Tensor) -> Tensor:
        """Returns x_T for standard normal z, shape (C, H, W) (eq. 4)."""
        return self._agree(0, z * math.sqrt(1.0 - _abar(self.sigmas[0])), None, z)

    def agree(self, row: int, x_next: Tensor, x0: Tensor, z: Tensor) -> Tensor:
        """Returns x' with its measured coordinates replaced (eq. 5), after a row that drew z; all are (C, H, W)."""
        return self._agree(row + 1, x_next, x0, z)

    def to(self, device: torch.device) -> Restoration:
        """Returns it with its tensors on another device, where `agree` computes then."""
        measured, noise = upload(self.measured, device), upload(self.noise, device)
        return replace(self, operator=self.operator.to(device), measured=measured, noise=noise)

    def _agree(self, level: int, x: Tensor, x0: Tensor | None, z: Tensor) -> Tensor:
        sigma = float(self.sigmas[level])
        signal = math.sqrt(_abar(sigma))
        to = self.operator.to_coordinates
        coordinates, fresh = to(x), to(z)
        # The measurement is less noisy than the step: take it, and add the noise that is missing. The factor signal is
        # inside the root, because sigma may be infinite.
        is_measured = torch.isfinite(self.noise)
        missing = (1.0 - signal**2 - (signal * self.noise) ** 2).clamp(min=0.0).sqrt()
        better = is_measured & (self.noise <= sigma)
        coordinates = torch.where(better, signal * self.measured + missing * fresh, coordinates)
        if x0 is not None:
            # The measurement is noisier than the step: take the prediction, pulled towards the measurement.
            predicted = to(x0)
            drawn = predicted + math.sqrt(1.0 - ETA**2) * sigma * (self.measured - predicted) / self.noise
            worse = is_measured & (self.noise > sigma)
            coordinates = torch.where(worse, signal * (drawn + ETA * sigma * fresh), coordinates)
        return self.operator.from_coordinates(coordinates)


def make_restoration(
    schedule: NoiseSchedule,
    operator: Operator,
    y: Tensor,
    *,
    sigma: float,
    steps: int = 20,
    spacing: str = "leading",
    prediction: Prediction = "eps",
    clipping: Clipping | None = None,
    guidance: Guidance = UNGUIDED,
) -> Restoration:
    """Makes the restoration of one measurement.

    Args:
        schedule, spacing, prediction, guidance: as in `make_plan`.
        operator: the degradation H.
        y: the measurement, in the shape of `operator.apply`, in [-1, 1] apart from its noise.
        sigma: standard deviation of the measurement's noise, in the unit of y; 0 for none.
        steps: number of network calls.
        clipping: clipping of the predicted x0; None for no clipping, as in the publication.

    Raises PlanError if no such run exists.
    """
    ends = ends_at_noise(spacing)  # and not at an image
    levels = visit_levels(schedule, spacing, steps + ends)
    transitions = []
    for i in reversed(range(int(ends), steps + ends)):
        abar, abar_prev = float(levels.chain.alphas_cumprod[i]), float(levels.chain.alphas_cumprod_prev[i])
        spread = math.sqrt(1.0 - abar_prev)
        a = math.sqrt(1.0 - ETA**2) * spread / math.sqrt(1.0 - abar)
        transitions.append(Transition(i, a=a, b=math.sqrt(abar_prev) - a * math.sqrt(abar), s=ETA * spread))
    clipping = clipping or Clipping("none")
    plan = tabulate(levels, transitions, prediction=prediction, clipping=clipping, guidance=guidance)
    values = operator.singular_values
    noise = torch.where(values > 0, sigma / values, torch.inf)
    sigmas = np.append(levels.chain.sigmas[::-1], [] if ends else 0.0)
    return Restoration(plan, operator, operator.read(y), noise, sigmas)


def _abar(sigma: float) -> float:
    return 1.0 / (1.0 + sigma**2)
