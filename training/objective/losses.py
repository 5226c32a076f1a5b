"""What a network is trained to predict, and how much each image counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.forward_process import q_sample
from model.plans.plan import Prediction, Variance
from model.plans.schedule import NoiseSchedule

from ..recipe import Loss, Weighting
from .uncertainty import Uncertainty
from .variational import VariationalTerms

GAMMAS: dict[Weighting, float] = {"min_snr": 5.0, "p2": 1.0, "sigmoid": 0.0}  # of the publications
LEAST_SNR = 1e-9  # where nothing of the image is left, so that its logarithm exists
HYBRID_SHARE = 0.001  # of the bound in L_hybrid


Network = Callable[[Tensor, Tensor], Tensor]  # from x_t and the timesteps, shape (B,), to the output


class Losses(NamedTuple):
    """The losses of each image, shape (B,).

    Attributes:
        loss: what is minimised, before any weight that makes up for how its timestep was drawn.
        error: the loss without weights: the mean squared error of the prediction, or the cross-entropy.
        vlb: estimate of the bound in bits per dimension, 0 where it plays no part.
        correct: 1 where the class was recognised and 0 where it was not; NaN where the network does not classify.
    """

    loss: Tensor
    error: Tensor
    vlb: Tensor
    correct: Tensor

    @classmethod
    def of_prediction(cls, loss: Tensor, error: Tensor, vlb: Tensor | None = None) -> Losses:
        """The losses of a network that predicts an image or its noise."""
        return cls(loss, error, torch.zeros_like(error) if vlb is None else vlb, torch.full_like(error, torch.nan))


class Objective:
    """A loss by name.

    `simple` is L_simple, the squared error, under a weighting (Ho et al. 2020, eq. 14). `vlb` is L_vlb, the variational
    bound in bits per dimension, estimated by T times the term of one timestep. `hybrid` is L_simple + 0.001 L_vlb;
    there the bound trains the variance only: its gradient does not reach the mean (Nichol & Dhariwal 2021, eq. 16).

    Args:
        schedule: of the model.
        prediction: what the network outputs.
        variance: what its second half of outputs is, if it has one.
        loss: `simple`, `hybrid` or `vlb`.
        weighting, gamma: of the simple loss, see `weights`; `learned` weighs by an `Uncertainty`.

    Attributes:
        uncertainty: the network that learns the weighting; None if it is not learned.
    """

    def __init__(
        self,
        schedule: NoiseSchedule,
        *,
        prediction: Prediction,
        variance: Variance,
        loss: Loss,
        weighting: Weighting = "uniform",
        gamma: float | None = None,
    ) -> None:
        assert loss in get_args(Loss)
        self._schedule = schedule
        self._prediction = prediction
        self._loss = loss
        every_t = torch.arange(schedule.num_train_timesteps)
        self._weights = weights(schedule, prediction, weighting, every_t, gamma)
        self.uncertainty: nn.Module | None = Uncertainty(schedule) if weighting == "learned" else None
        self._bound = None if loss == "simple" else VariationalTerms(schedule, prediction, variance)

    def __call__(self, network: Network, x0: Tensor, t: Tensor, noise: Tensor) -> Losses:
        """The losses of a network at x_t.

        Args:
            network: its output has the shape of x0, or (B, 2C, H, W) with a learned variance.
            x0: clean images, shape (B, C, H, W), in [-1, 1].
            t: timesteps, shape (B,), int64, on the CPU.
            noise: standard normal, shape of x0.
        """
        channels = x0.shape[1]
        out = network(q_sample(self._schedule, x0, t, noise), t)
        # Cut only where there is something to cut off: the gradient of a part is copied into zeros.
        predicted, learned = (out, out[:, channels:]) if out.shape[1] == channels else torch.split(out, channels, dim=1)
        mse = (predicted - target(self._schedule, self._prediction, x0, t, noise)).square().mean((1, 2, 3))
        simple = self._weights[t].to(mse) * mse
        if self.uncertainty is not None:
            u = self.uncertainty(t).to(mse)
            simple = simple / u.exp() + u
        if self._bound is None:
            return Losses.of_prediction(simple, mse)
        steps = self._schedule.num_train_timesteps
        if self._loss == "vlb":
            vlb = steps * self._bound(x0, t, noise, predicted, learned)
            return Losses.of_prediction(vlb, mse, vlb)
        vlb = steps * self._bound(x0, t, noise, predicted.detach(), learned)
        return Losses.of_prediction(simple + HYBRID_SHARE * vlb, mse, vlb)


class CrossEntropy:
    """-log p(y | x_t) of a noisy classifier at x_t from q(x_t | x_0) (Dhariwal & Nichol 2021, section 4).

    Args:
        schedule: of the model that the classifier guides.
    """

    def __init__(self, schedule: NoiseSchedule) -> None:
        self._schedule = schedule

    def __call__(self, network: Network, x0: Tensor, t: Tensor, noise: Tensor, labels: Tensor) -> Losses:
        """The losses of a classifier at x_t, in nats.

        Args:
            network: its output is the logits, shape (B, classes).
            x0: clean images, shape (B, C, H, W), in [-1, 1].
            t: timesteps, shape (B,), int64, on the CPU.
            noise: standard normal, shape of x0.
            labels: the true classes, shape (B,).
        """
        logits = network(q_sample(self._schedule, x0, t, noise), t)
        loss = F.cross_entropy(logits, labels, reduction="none")
        return Losses(loss, loss, torch.zeros_like(loss), (logits.argmax(dim=1) == labels).to(loss))


def _sigmoid_weights(schedule: NoiseSchedule, gamma: float) -> Tensor:
    """Returns sigmoid(gamma - ln SNR) times -d ln SNR / ds, with s from 0 to 1, of all t; shape (T,), float64."""
    log_snr = np.log(np.maximum(schedule.sigmas**-2.0, LEAST_SNR))
    slope = -schedule.num_train_timesteps * np.gradient(log_snr)
    return torch.sigmoid(gamma - torch.from_numpy(log_snr)) * torch.from_numpy(slope)


def target(schedule: NoiseSchedule, prediction: Prediction, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """What the network should output at x_t, shape of x0.

    eps is the noise (Ho et al. 2020, eq. 14); v is sqrt(abar) noise - sqrt(1 - abar) x0 (Salimans & Ho 2022, section
    4).
    """
    if prediction == "eps":
        return noise
    if prediction == "x0":
        return x0
    abar = torch.from_numpy(schedule.alphas_cumprod)[t].view(-1, 1, 1, 1)
    return abar.sqrt().to(x0) * noise - (1 - abar).sqrt().to(x0) * x0


def weights(
    schedule: NoiseSchedule, prediction: Prediction, weighting: Weighting, t: Tensor, gamma: float | None = None
) -> Tensor:
    """Factor of each image's mean squared error, shape (B,), float32.

    `uniform` and `learned` are 1. `min_snr` counts an image as if its x0 error were weighted by min(SNR, gamma) (Hang
    et al. 2023, section 3.4), `p2` as if its eps error were weighted by 1 / (1 + SNR)^gamma (Choi et al. 2022, eq. 8),
    whatever the network predicts: an error d of x0 is one of d sqrt(SNR) of eps, and of d / sqrt(1 - abar) of v.

    `sigmoid` weighs the eps error by sigmoid(gamma - ln SNR), where ln SNR instead of t is uniform (Kingma & Gao 2023,
    "Understanding Diffusion Objectives as the ELBO with Simple Data Augmentation"; Hoogeboom et al. 2024).

    Args:
        gamma: None takes that of the publication, see `GAMMAS`.
    """
    if weighting in ("uniform", "learned"):
        return torch.ones(len(t))
    abar = torch.from_numpy(schedule.alphas_cumprod)[t]
    snr = abar / (1 - abar)
    if gamma is None:
        gamma = GAMMAS[weighting]
    if weighting in ("p2", "sigmoid"):
        of_eps = (1 + snr) ** -gamma if weighting == "p2" else _sigmoid_weights(schedule, gamma)[t]
        factor = {"eps": of_eps, "x0": of_eps * snr, "v": of_eps * abar}[prediction]
    else:
        # gamma / max(SNR, gamma) is min(SNR, gamma) / SNR, where no image is left too.
        capped = snr.clamp(max=gamma)
        factor = {"eps": gamma / snr.clamp(min=gamma), "x0": capped, "v": capped * (1 - abar)}[prediction]
    return factor.float()
