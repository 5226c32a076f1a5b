"""Doubling the resolution gives the same values whether it trains or not; the gradient of a value is a sum of four."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from difuso.model.networks.layers import double


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_doubling_is_the_same_in_training(memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 8, 3, 5).to(memory_format=memory_format)
    weights = torch.randn(2, 8, 6, 10)

    def trained(call: object) -> tuple[Tensor, Tensor]:
        assert callable(call)
        leaf = x.double().clone().requires_grad_()
        out = call(leaf)
        torch.autograd.backward((weights * out).sum())
        assert leaf.grad is not None
        return out.detach(), leaf.grad

    out, gradient = trained(double)
    expected, expected_gradient = trained(lambda x: functional.interpolate(x, scale_factor=2.0, mode="nearest"))
    assert torch.equal(out, expected)
    assert torch.equal(out, double(x.double()))
    torch.testing.assert_close(gradient, expected_gradient)
