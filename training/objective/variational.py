"""One differentiable term of the variational bound, which L_vlb and L_hybrid are made of."""

import math

import torch
from torch import Tensor

from difuso.model.likelihood import decoder_bits, kl_bits
from difuso.model.plans.plan import Prediction, Variance
from difuso.model.plans.prediction import x0_from_output
from difuso.model.plans.samplers.single_step import deviation_at
from difuso.model.plans.schedule import NoiseSchedule


class VariationalTerms:
    """L_{t-1} for t > 0 and the decoder L_0 for t = 0, of ancestral sampling on all T timesteps, without clipping.

    Args:
        prediction: the meaning of the first half of the output.
        variance: the meaning of the second half of the output; a fixed variance has none.
    """

    def __init__(self, schedule: NoiseSchedule, prediction: Prediction, variance: Variance) -> None:
        every_t = range(schedule.num_train_timesteps)
        deviations = (deviation_at(schedule, t, variance) for t in every_t)
        columns = {
            "signal": schedule.alphas_cumprod**0.5,
            "spread": (1 - schedule.alphas_cumprod) ** 0.5,
            "mean_x0": schedule.posterior_mean_coef1,
            "mean_x_t": schedule.posterior_mean_coef2,
            "q_variance": schedule.posterior_variance_clipped,  # that of t = 0, which is 0, is not used
        }
        self._table = {name: torch.tensor(column) for name, column in columns.items()}
        both = torch.tensor([x0_from_output(prediction, float(abar)) for abar in schedule.alphas_cumprod])
        self._table["x0_x"], self._table["x0_out"] = both.double().unbind(1)
        logs = torch.tensor([(2 * math.log(s), v) for s, v in deviations], dtype=torch.float64)
        self._table["log_variance"], self._table["widening"] = logs.unbind(1)

    def __call__(self, x0: Tensor, t: Tensor, noise: Tensor, predicted: Tensor, learned: Tensor) -> Tensor:
        """Returns bits per dimension, shape (B,). T times their mean over random t estimates the bound without L_T.

        Args:
            x0: images of 256 grey levels, shape (B, C, H, W), in [-1, 1].
            t: timesteps, shape (B,), int64, on the CPU.
            noise: the noise in x_t, shape of x0.
            predicted: first half of the output, shape of x0.
            learned: its second half, or (B, 0, H, W).
        """
        row = {name: column[t].view(-1, 1, 1, 1).to(x0) for name, column in self._table.items()}
        x_t = row["signal"] * x0 + row["spread"] * noise
        pred_x0 = row["x0_x"] * x_t + row["x0_out"] * predicted
        p_mean = row["mean_x0"] * pred_x0 + row["mean_x_t"] * x_t
        p_log_variance = row["log_variance"]
        if learned.shape[1]:
            p_log_variance = p_log_variance + row["widening"] * (learned + 1)
        q_mean = row["mean_x0"] * x0 + row["mean_x_t"] * x_t
        kl = kl_bits(q_mean, row["q_variance"], p_mean, p_log_variance).mean((1, 2, 3))
        if not (t == 0).any():
            return kl
        # The decoder clamps tiny probabilities, so no NaN leaks from its gradient into the other images' terms.
        decoder = decoder_bits(x0, p_mean, p_log_variance).mean((1, 2, 3))
        return torch.where((t == 0).to(x0.device), decoder, kl)
