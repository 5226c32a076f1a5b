"""The loss of a noisy classifier."""

import torch
import torch.nn.functional as F
from torch import Tensor

from model.noise import q_sample
from model.plans.schedule import NoiseSchedule

from ..recipe import Recipe
from .losses import Losses, Network
from .timesteps import TimestepSampler, sampler_of


class CrossEntropy:
    """-log p(y | x_t) of a noisy classifier at x_t from q(x_t | x_0) (Dhariwal & Nichol 2021, section 4)."""

    def __init__(self, schedule: NoiseSchedule) -> None:
        self._schedule = schedule

    def __call__(self, network: Network, x0: Tensor, t: Tensor, noise: Tensor, labels: Tensor) -> Losses:
        """The losses of a classifier at x_t, in nats.

        The arguments are those of `losses.Objective`, but the network returns logits, shape (B, classes). `labels` are
        the true classes, shape (B,).
        """
        logits = network(q_sample(self._schedule, x0, t, noise), t)
        loss = F.cross_entropy(logits, labels, reduction="none")
        return Losses(loss, loss, torch.zeros_like(loss), (logits.argmax(dim=1) == labels).to(loss))


def objective_of(recipe: Recipe, schedule: NoiseSchedule) -> tuple[CrossEntropy, TimestepSampler]:
    """Returns the loss of a classifier, which takes the true classes too, with its timesteps."""
    return CrossEntropy(schedule), sampler_of(recipe, schedule)
