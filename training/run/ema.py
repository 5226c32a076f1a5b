"""The exponential moving average of weights, which is served."""

import copy

import torch
from torch import nn


class Ema:
    """Averages a network's weights in float32.

    The decay begins at 0.1 and rises, min(decay, (1 + n) / (10 + n)). So the average no longer holds the random initial
    weights after a few thousand updates. The first average are the present weights of the network.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).requires_grad_(False).eval()
        self.decay = decay
        self.updates = 0

    def decay_at(self, update: int) -> float:
        """The decay of update number `update`, which counts from 0."""
        return min(self.decay, (1 + update) / (10 + update))

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """average = decay * average + (1 - decay) * weights. Buffers, such as means of a normalisation, are copied."""
        weight = 1.0 - self.decay_at(self.updates)
        torch._foreach_lerp_(list(self.network.parameters()), list(network.parameters()), weight)
        for buffer, newest in zip(self.network.buffers(), network.buffers(), strict=True):
            buffer.copy_(newest)
        self.updates += 1
