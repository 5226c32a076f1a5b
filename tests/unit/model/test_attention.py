"""Attention while training in bfloat16 on a CPU has the values and gradients of attention elsewhere, up to rounding."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from difuso.model.networks.layers import FEW, attend

EPS = torch.finfo(torch.bfloat16).eps


def results(call: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """Returns what a function makes of three inputs, and the gradients of these."""
    leaves = [each.detach().clone().requires_grad_() for each in inputs]
    with torch.autocast("cpu"):
        out = call(*leaves)
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
    gradients = torch.autograd.grad((out.double() * weights).sum(), leaves)
    return [each.double() for each in (out.detach(), *gradients)]


@pytest.mark.parametrize("positions", [1, 16, FEW])
def test_training_in_bfloat16_rounds_and_does_no_more(positions: int) -> None:
    torch.manual_seed(positions)
    inputs = [torch.randn(3, 2, positions, 24).bfloat16() for _ in range(3)]
    exact = results(F.scaled_dot_product_attention, [each.double() for each in inputs])
    for found, expected in zip(results(attend, inputs), exact, strict=True):
        # Each number is a sum of products of numbers that were rounded twice before.
        assert float((found - expected).norm()) <= 4 * EPS * float(expected.norm()) + 1e-12


@pytest.mark.parametrize("requires_grad", [False, True])  # as a classifier that guides does
def test_a_worker_s_is_pytorch_s(requires_grad: bool) -> None:
    q, k, v = (torch.randn(3, 2, 16, 24).bfloat16().requires_grad_(requires_grad) for _ in range(3))
    assert torch.equal(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))
