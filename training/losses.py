"""What the network is trained to predict, and how much each image counts."""

from __future__ import annotations

import torch
from torch import Tensor

from model.plan import Prediction
from model.schedule import NoiseSchedule

MIN_SNR_GAMMA = 5.0


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


def weights(schedule: NoiseSchedule, prediction: Prediction, weighting: str, t: Tensor) -> Tensor:
    """Factor of each image's mean squared error, shape (B,), float32.

    `uniform` is 1. `min_snr` counts an image as if its x0 error were weighted by min(SNR, 5) (Hang et al. 2023, section
    3.4).
    """
    if weighting == "uniform":
        return torch.ones(len(t))
    abar = torch.from_numpy(schedule.alphas_cumprod)[t]
    snr = abar / (1 - abar)
    capped = snr.clamp(max=MIN_SNR_GAMMA)
    divisor = {"eps": snr, "x0": torch.ones_like(snr), "v": snr + 1}[prediction]
    return (capped / divisor).float()
