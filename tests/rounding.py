"""Bounds for the distance of two computations of the same numbers, from size and length and not from a machine."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def rounding(largest: float, *, steps: int, dtype: torch.dtype = torch.float32) -> float:
    """Returns largest * steps * eps.

    Each computation rounds each of its numbers by half an eps, and the roundings of the steps add up.

    Args:
        largest: the largest of the rounded numbers, including those that cancel.
        steps: the number of successive results: calls of a plan, layers of a network, factors of a product.
        dtype: the type of the less exact computation.
    """
    return largest * steps * torch.finfo(dtype).eps


def layers(network: nn.Module) -> int:
    """Returns the number of a network's layers with weights; its output follows from no more than these in sequence."""
    return sum(any(True for _ in module.parameters(recurse=False)) for module in network.modules())


def assert_rounded_alike(mine: Tensor, theirs: Tensor, *, steps: int, largest: float = 1.0) -> None:
    """Asserts that two tensors differ by rounding alone.

    Args:
        steps: see `rounding`.
        largest: the size of intermediate numbers; at least the largest of `theirs` is taken.
    """
    assert mine.shape == theirs.shape
    bound = rounding(max(largest, float(theirs.detach().abs().max())), steps=steps)
    difference = float((mine - theirs).detach().abs().max())
    assert difference <= bound, f"{difference:.3g} is more than rounding gives, {bound:.3g}"
