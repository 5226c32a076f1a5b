"""Exponential moving average of weights: what is served."""

from __future__ import annotations

import copy

import torch
from torch import nn


class Ema:
    """Averages a network's weights in float32.

    The decay rises from nothing, min(decay, (1 + n) / (10 + n)), so that after a few thousand updates the average does
    not still hold the random weights of the start.

    Args:
        network: its present weights are the first average.
        decay: target, 0..1.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        self.updates = 0

    def decay_at(self, update: int) -> float:
        """The decay of update number `update`, from 0."""
        return min(self.decay, (1 + update) / (10 + update))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """average = decay * average + (1 - decay) * weights."""
        weight = 1.0 - self.decay_at(self.updates)
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), weight)
        self.updates += 1
