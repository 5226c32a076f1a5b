"""Between two pictures, or two noises."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from difuso.model.noise import mix, slerp

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

SHARES = [0.0, 0.25, 0.5, 1.0]


def noises() -> tuple[Tensor, Tensor]:
    a, b = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    return a, b


def angle(a: Tensor, b: Tensor) -> float:
    a, b = a.flatten().double(), b.flatten().double()
    return math.acos(min(1.0, (a @ b / a.norm() / b.norm()).item()))


@pytest.mark.parametrize("between", [mix, slerp])
def test_the_ends_are_exact(between: object) -> None:
    a, b = noises()
    assert callable(between)
    assert torch.equal(between(a, b, 0.0), a)
    assert torch.equal(between(a, b, 1.0), b)


@pytest.mark.parametrize("share", SHARES)
def test_the_share_is_that_of_the_angle(share: float) -> None:
    a, b = noises()
    b = b * (a.norm() / b.norm())
    whole, found = angle(a, b), slerp(a, b, share)
    assert angle(a, found) == pytest.approx(share * whole, abs=2e-4)
    assert angle(found, b) == pytest.approx((1 - share) * whole, abs=2e-4)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("factor", [2.0, -1.0, 0.0])
def test_where_there_is_no_arc_it_is_a_line(share: float, factor: float) -> None:
    """The same direction, the opposite one, and none at all."""
    a, _ = noises()
    found = slerp(a, factor * a, share)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(found, mix(a, factor * a, share), rtol=0, atol=2e-3)
