"""The target and the losses of a network that draws images, and the loss of a noisy classifier."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from difuso.model.errors import ForeignError
from difuso.model.foreign.code import foreign_code, load
from difuso.model.foreign.names import is_foreign
from difuso.model.likelihood import decoder_bits, kl_bits
from difuso.model.noise import q_sample
from difuso.model.plans.plan import Prediction, Variance
from difuso.model.plans.prediction import x0_from_output
from difuso.model.plans.samplers.single_step import deviation_at
from difuso.model.plans.schedule import FloatTable, NoiseSchedule

from ..recipe import Recipe
from .weightings import weights

HYBRID_SHARE = 0.001  # of the bound in L_hybrid

Network = Callable[[Tensor, Tensor], Tensor]  # from x_t and the timesteps, shape (B,), to the output


class Losses(NamedTuple):
    """The losses of each image, shape (B,)."""

    loss: Tensor  # the minimised loss
    error: Tensor  # the loss without weights: the mean squared error of the prediction, or the cross-entropy
    vlb: Tensor  # estimate of the bound in bits per dimension, 0 where it is not used
    correct: Tensor  # 1 where the class was recognised and 0 where it was not; NaN where the network does not classify

    @classmethod
    def of_prediction(cls, loss: Tensor, error: Tensor, vlb: Tensor | None = None) -> Losses:
        """The losses of a network that predicts an image or its noise."""
        return cls(loss, error, torch.zeros_like(error) if vlb is None else vlb, torch.full_like(error, torch.nan))


class Objective:
    """A loss by name.

    `simple` is L_simple, the squared error, under a weighting (Ho et al. 2020, eq. 14). `vlb` is L_vlb, the variational
    bound in bits per dimension, estimated by T times the term of one timestep. `hybrid` is L_simple + 0.001 L_vlb;
    there the bound trains the variance only: its gradient does not reach the mean (Nichol & Dhariwal 2021, eq. 16).

    `variance` is the meaning of the second half of the outputs, if they have one.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        *,
        prediction: Prediction,
        variance: Variance,
        loss: str,
        weighting: str = "uniform",
        gamma: float | None = None,
    ) -> None:
        assert loss in ("simple", "hybrid", "vlb")
        self._schedule = schedule
        self._prediction = prediction
        self._loss = loss
        own = is_foreign(weighting)
        table = _own_weights(schedule, weighting, gamma) if own else weights(schedule, prediction, weighting, gamma)
        self._weights = torch.tensor(table).float()
        self._bound = None if loss == "simple" else VariationalTerms(schedule, prediction, variance)

    def __call__(self, network: Network, x0: Tensor, t: Tensor, noise: Tensor) -> Losses:
        """The losses of a network at x_t, whose output has the shape of x0, or (B, 2C, H, W) with a learned variance.

        x0 are images in [-1, 1], shape (B, C, H, W), with as much standard normal noise, and t, (B,), int64, is on the
        CPU.
        """
        channels = x0.shape[1]
        out = network(q_sample(self._schedule, x0, t, noise), t)
        # Cut only where there is something to cut off: the gradient of a part is copied into zeros.
        predicted, learned = (out, out[:, channels:]) if out.shape[1] == channels else torch.split(out, channels, dim=1)
        mse = (predicted - target(self._schedule, self._prediction, x0, t, noise)).square().mean((1, 2, 3))
        simple = self._weights[t].to(mse) * mse
        if self._bound is None:
            return Losses.of_prediction(simple, mse)
        steps = self._schedule.num_train_timesteps
        if self._loss == "vlb":
            vlb = steps * self._bound(x0, t, noise, predicted, learned)
            return Losses.of_prediction(vlb, mse, vlb)
        vlb = steps * self._bound(x0, t, noise, predicted.detach(), learned)
        return Losses.of_prediction(simple + HYBRID_SHARE * vlb, mse, vlb)


def _own_weights(schedule: NoiseSchedule, name: str, gamma: float | None) -> FloatTable:
    """Returns the factors that a function of another package gives, shape (T,).

    The function is called as function(schedule), and as function(schedule, gamma) if the recipe has a gamma. Each
    factor multiplies the squared error of the quantity that the network predicts.

    Raises ForeignError if the function fails, or returns anything but T finite numbers of at least 0.
    """
    function, total = load(name), schedule.num_train_timesteps
    with foreign_code(name, "be called"):
        table = np.asarray(function(schedule) if gamma is None else function(schedule, gamma), dtype=np.float64)
    if table.shape != (total,) or not np.isfinite(table).all() or (table < 0).any():
        raise ForeignError(f"{name} must return {total} factors, one for each timestep, finite and at least 0")
    return table


class VariationalTerms:
    """L_{t-1} for t > 0 and the decoder L_0 for t = 0, of ancestral sampling on all T timesteps, without clipping."""

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

        The images have 256 grey levels. `predicted` and `learned` are the halves of the output, of which the second may
        have no channels.
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


class CrossEntropy:
    """-log p(y | x_t) of a noisy classifier at x_t from q(x_t | x_0) (Dhariwal & Nichol 2021, section 4)."""

    def __init__(self, schedule: NoiseSchedule) -> None:
        self._schedule = schedule

    def __call__(self, network: Network, x0: Tensor, t: Tensor, noise: Tensor, labels: Tensor) -> Losses:
        """The losses of a classifier at x_t, in nats; it returns logits, shape (B, classes), and labels are (B,)."""
        logits = network(q_sample(self._schedule, x0, t, noise), t)
        loss = F.cross_entropy(logits, labels, reduction="none")
        return Losses(loss, loss, torch.zeros_like(loss), (logits.argmax(dim=1) == labels).to(loss))


def target(schedule: NoiseSchedule, prediction: Prediction, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """The output that the network should have at x_t, shape of x0.

    eps is the noise (Ho et al. 2020, eq. 14); v is sqrt(abar) noise - sqrt(1 - abar) x0 (Salimans & Ho 2022, section
    4); flow is noise - x0 (Liu et al. 2022, eq. 1).
    """
    if prediction == "eps":
        return noise
    if prediction == "x0":
        return x0
    if prediction == "flow":
        return noise - x0
    abar = torch.from_numpy(schedule.alphas_cumprod)[t].view(-1, 1, 1, 1)
    return abar.sqrt().to(x0) * noise - (1 - abar).sqrt().to(x0) * x0


def objective_of(recipe: Recipe, schedule: NoiseSchedule) -> Objective | CrossEntropy:
    """Returns the recipe's loss; that of a classifier takes the true classes too."""
    if recipe.loss == "cross_entropy":
        return CrossEntropy(schedule)
    return Objective(
        schedule,
        prediction=recipe.prediction,
        variance=recipe.variance,
        loss=recipe.loss,
        weighting=recipe.weighting,
        gamma=recipe.gamma,
    )
