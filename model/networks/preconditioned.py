"""A network that was trained on noise levels, or on the times of a flow, as a denoiser of x_t at timesteps."""

import math

import numpy as np
import torch
from torch import Tensor, nn

from ..plans.prediction import Preconditioning
from ..plans.schedule import Flow, NoiseSchedule
from .layers import by_rows

LAST_LABEL = 999.0  # the noise measure of `vp` at the time 1


def denoiser_of(network: nn.Module, preconditioning: Preconditioning | None, schedule: NoiseSchedule) -> nn.Module:
    """Returns a network as plans call it: from x_t and t to the model's prediction. It shares the weights."""
    if isinstance(schedule, Flow):
        return FlowDenoiser(network, schedule)
    return network if preconditioning is None else Preconditioned(network, preconditioning, schedule)


class FlowDenoiser(nn.Module):
    """Calls a network of flow matching with y = x_t sqrt((1 - s)^2 + (s k)^2) and T s, see `Flow`."""

    def __init__(self, network: nn.Module, schedule: Flow) -> None:
        super().__init__()
        self.network = network
        self.schedule = schedule

    def forward(self, x: Tensor, t: Tensor, **inputs: Tensor) -> Tensor:
        """Returns the prediction, of the shape of the network's output; the arguments are those of `Preconditioned`."""
        scale, time = by_rows(self._scalars, t.float()[:, None]).unbind(1)
        return self.network(_each(scale.to(x.dtype)) * x, time, **inputs)

    def _scalars(self, t: Tensor) -> Tensor:
        """Returns the scale of y, and the time as a timestep, shape (B, 2)."""
        s = self.schedule.time_at(t[:, 0])
        scale = ((1 - s) ** 2 + (self.schedule.noise_scale * s) ** 2).sqrt()
        return torch.stack([scale, self.schedule.num_train_timesteps * s], dim=1)


class Preconditioned(nn.Module):
    """Scales the input and output of a network, and gives it the noise level of a timestep; see `Preconditioning`."""

    def __init__(self, network: nn.Module, preconditioning: Preconditioning, schedule: NoiseSchedule) -> None:
        super().__init__()
        self.network = network
        self.preconditioning = preconditioning
        logs = torch.from_numpy(np.log(schedule.sigmas)).float()
        self.register_buffer("log_sigmas", logs, persistent=False)
        self.log_sigmas: Tensor

    def forward(self, x: Tensor, t: Tensor, **inputs: Tensor) -> Tensor:
        """Returns the prediction, shape of x, (B, C, H, W), at timesteps t, (B,), which may be fractional."""
        # In rows of sixteen: exp and sqrt may round otherwise in a vector's tail.
        scalars = by_rows(self._scalars, t.float()[:, None]).to(x.dtype)
        noise, c_in, c_skip, c_out = scalars.unbind(1)
        out = self.network(_each(c_in) * x, noise, **inputs)
        return _each(c_skip) * x + _each(c_out) * out

    def _scalars(self, t: Tensor) -> Tensor:
        """Returns the measure of noise, and the scales of the input, x_t and the output, shape (B, 4)."""
        t = t[:, 0]
        log_sigma = self._log_sigma(t)
        sigma = log_sigma.exp()
        y = (1 + sigma**2).sqrt()
        zero, one = torch.zeros_like(t), torch.ones_like(t)
        match self.preconditioning.kind:
            case "edm":
                data = self.preconditioning.sigma_data
                total = (sigma**2 + data**2).sqrt()
                columns = (log_sigma / 4, y / total, y * data**2 / total**2, sigma * data / total)
            case "ve":
                columns = (log_sigma - math.log(2), y, zero, -one)
            case "vp":
                columns = ((t + 1) * (LAST_LABEL / len(self.log_sigmas)), one, zero, one)
        return torch.stack(columns, dim=1)

    def _log_sigma(self, t: Tensor) -> Tensor:
        """Returns the logarithm of `NoiseSchedule.sigma_at`."""
        last = len(self.log_sigmas) - 1
        lower = t.floor().clamp(0, max(last - 1, 0))
        index = lower.long()
        below, above = self.log_sigmas[index], self.log_sigmas[(index + 1).clamp(max=last)]
        return below + (t - lower) * (above - below)


def _each(scalars: Tensor) -> Tensor:
    """Returns one number for each image in a shape that multiplies images."""
    return scalars[:, None, None, None]
