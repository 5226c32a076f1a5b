"""A learned weighting: the uncertainty of a network at each noise level (Karras et al. 2024, EDM2)."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from model.guidance import MOST_SIGMA
from model.plans.schedule import NoiseSchedule

FEATURES = 128


class Uncertainty(nn.Module):
    """The logarithm of the expected squared error, u(sigma); a loss L becomes L / e^u + u.

    The minimum over u is ln L, so each noise level counts by how much of its loss is gained, whatever its size (Karras
    et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models"). It is a linear layer over Fourier
    features of ln(sigma) / 4, and begins with 0.
    """

    features: Tensor

    def __init__(self, schedule: NoiseSchedule) -> None:
        super().__init__()
        frequencies, phases = torch.randn(FEATURES, dtype=torch.float64), torch.rand(FEATURES, dtype=torch.float64)
        finite = np.log(np.minimum(schedule.sigmas, MOST_SIGMA)) / 4
        angles = 2 * math.pi * (torch.from_numpy(finite)[:, None] * frequencies + phases)
        self.register_buffer("features", math.sqrt(2) * angles.cos().float())
        self.linear = nn.Linear(FEATURES, 1, bias=False)
        nn.init.zeros_(self.linear.weight)

    def forward(self, t: Tensor) -> Tensor:
        """Returns u, shape (B,), of timesteps, shape (B,), int64, on the CPU."""
        out: Tensor = self.linear(self.features[t.to(self.features.device)])
        return out[:, 0]
