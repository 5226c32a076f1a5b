"""The operations of a network call."""

import copy

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from .trainer import Trainer


def call_flops(trainer: Trainer) -> int:
    """Returns the operations of a call forwards with one image, two for each multiplication with its addition."""
    network = copy.deepcopy(trainer.network)  # in training mode a call may change the means of a normalisation
    x_t, t, inputs = trainer.blank(1)
    # In training mode, because the counter does not know oneDNN's convolutions of the other; dropout draws there. And
    # attention by matrix products, because it does not know the CPU's own.
    counted = FlopCounterMode(display=False)
    with torch.random.fork_rng(), sdpa_kernel(SDPBackend.MATH), counted as counter, torch.no_grad():
        network(x_t, t, **inputs)
    return int(counter.get_total_flops())
