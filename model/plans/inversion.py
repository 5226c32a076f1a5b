"""DDIM run backwards: from an image to the noise from which DDIM would draw it (Song et al. 2021, section 4.3)."""

from __future__ import annotations

import math

import numpy as np

from ..guidance import UNGUIDED, Guidance
from .plan import Column, Plan
from .prediction import Prediction, eps_from_output
from .schedule import NoiseSchedule
from .spacing import visit_levels


def make_inversion(
    schedule: NoiseSchedule,
    *,
    steps: int = 50,
    spacing: str = "leading",
    prediction: Prediction = "eps",
    start: int | None = None,
    guidance: Guidance = UNGUIDED,
) -> Plan:
    """Makes the plan that takes a clean image to x_t at the timestep where a DDIM plan of the same arguments begins.

    Each step goes from one level to the next noisier one, and calls the network at that next timestep. DDIM makes the
    same calls on its way back; they differ only in x. Nothing is clipped.

    Args:
        schedule, spacing, prediction, start, guidance: as in `make_plan`.
        steps: number of network calls, 1..T (1..start+1).

    Raises:
        PlanError: if no such run exists; the message names the parameter and its limits.
    """
    levels = visit_levels(schedule, spacing, steps, start=start)
    chain = levels.chain
    table = np.zeros((steps, len(Column)))
    table[:, Column.CLIP], table[:, Column.W] = np.inf, guidance.weights(chain.sigmas)
    for row, abar, abar_next in zip(table, chain.alphas_cumprod_prev, chain.alphas_cumprod, strict=True):
        # eps = p x + q out;  x0 = (x - sqrt(1 - abar) eps) / sqrt(abar);  x' = sqrt(abar') x0 + sqrt(1 - abar') eps
        p, q = eps_from_output(prediction, float(abar_next))
        signal, spread, spread_next = math.sqrt(abar), math.sqrt(1.0 - abar), math.sqrt(1.0 - abar_next)
        row[Column.X0_X], row[Column.X0_OUT] = (1.0 - spread * p) / signal, -spread * q / signal
        row[Column.A], row[Column.B], row[Column.OUT] = spread_next * p, math.sqrt(abar_next), spread_next * q
    return Plan(levels.timesteps, table)
