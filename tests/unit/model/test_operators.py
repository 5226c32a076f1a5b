"""Degradations as a diagonal between two orthonormal bases: H = U S V^T, checked against the explicit matrix."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from difuso.model.operators import (
    LEAST_SINGULAR_VALUE,
    Blur,
    Colorization,
    Inpainting,
    Operator,
    SuperResolution,
    blur_matrix,
    gaussian_kernel,
    uniform_kernel,
)

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

SHAPE = (3, 8, 8)
MISSING = torch.rand(8, 8, generator=torch.Generator().manual_seed(1)) < 0.4
OPERATORS: dict[str, Operator] = {
    "inpainting": Inpainting(MISSING, 3),
    "half": SuperResolution(2, SHAPE),
    "quarter": SuperResolution(4, SHAPE),
    "grey": Colorization(SHAPE),
    "grey of grey": Colorization((1, 8, 8)),
    "gaussian": Blur(gaussian_kernel(0.6), SHAPE),
    "strong gaussian": Blur(gaussian_kernel(2.0), SHAPE),
    "uniform": Blur(uniform_kernel(3), SHAPE),
    "inpainting, wide": Inpainting(MISSING[:4], 3),
    "half, tall, four channels": SuperResolution(2, (4, 8, 4)),
    "gaussian, wide": Blur(gaussian_kernel(0.6), (1, 4, 12)),
    "uniform, tall": Blur(uniform_kernel(3), (1, 12, 4)),
}
BLURS = ["gaussian", "strong gaussian", "uniform", "gaussian, wide", "uniform, tall"]

every_operator = pytest.mark.parametrize("name", OPERATORS)


def noise(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pictures_of(operator: Operator) -> tuple[int, ...]:
    return tuple(operator.singular_values.shape)


@every_operator
def test_the_way_to_the_coordinates_and_back_is_a_rotation(name: str) -> None:
    """V V^T = V^T V = I, and no norm or angle changes."""
    operator = OPERATORS[name]
    x, other = noise(pictures_of(operator)), noise(pictures_of(operator), seed=1)
    c, c_other = operator.to_coordinates(x), operator.to_coordinates(other)
    torch.testing.assert_close(operator.from_coordinates(c), x, rtol=0, atol=2e-6)
    torch.testing.assert_close(operator.to_coordinates(operator.from_coordinates(x)), x, rtol=0, atol=2e-6)
    assert c.norm().item() == pytest.approx(x.norm().item(), rel=1e-6)
    assert (c * c_other).sum().item() == pytest.approx((x * other).sum().item(), abs=1e-4)


@every_operator
def test_each_coordinate_is_measured_with_its_singular_value(name: str) -> None:
    """The columns of H V are orthogonal, and as long as the singular values: H = U S V^T."""
    operator = OPERATORS[name]
    shape = pictures_of(operator)
    units = torch.eye(operator.singular_values.numel()).view(-1, *shape)
    columns = torch.stack([operator.apply(operator.from_coordinates(unit)).flatten() for unit in units], dim=1)
    gram = (columns.T @ columns).double()
    expected = operator.singular_values.flatten().double() ** 2
    lost = expected == 0
    torch.testing.assert_close(gram.diagonal()[~lost], expected[~lost], rtol=1e-4, atol=1e-6)
    assert (gram - gram.diagonal().diag()).abs().max() < 1e-6
    assert (gram.diagonal()[lost] < (LEAST_SINGULAR_VALUE**2 if name in BLURS else 1e-12)).all()


@every_operator
def test_a_measurement_is_read_as_the_coordinates_that_it_measured(name: str) -> None:
    """S^+ U^T H x = V^T x where anything is measured, 0 elsewhere; weak weights enlarge rounding errors 30 times."""
    operator = OPERATORS[name]
    x = noise(pictures_of(operator))
    read, coordinates = operator.read(operator.apply(x)), operator.to_coordinates(x)
    measured = operator.singular_values > 0
    torch.testing.assert_close(read[measured], coordinates[measured], rtol=0, atol=2e-4)
    assert not read[~measured].any()


@pytest.mark.parametrize(("name", "factor"), [("half", 2), ("quarter", 4)])
def test_superresolution_measures_means_of_blocks(name: str, factor: int) -> None:
    x = noise(SHAPE)
    torch.testing.assert_close(OPERATORS[name].apply(x), F.avg_pool2d(x, factor), rtol=0, atol=1e-6)


def test_colorization_measures_the_mean_of_the_channels() -> None:
    x = noise(SHAPE)
    torch.testing.assert_close(OPERATORS["grey"].apply(x), x.mean(0, keepdim=True))


def test_the_edge_is_a_mirror() -> None:
    """As a convolution of the picture with its first and last pixels repeated in reverse: c b a | a b c | c b a."""
    kernel = torch.tensor([0.1, 0.2, 0.4, 0.2, 0.1], dtype=torch.float64)
    row = noise((8,)).double()
    wide = torch.cat([row[:2].flip(0), row, row[-2:].flip(0)])
    expected = F.conv1d(wide[None, None], kernel[None, None])[0, 0]
    torch.testing.assert_close(blur_matrix(kernel, 8) @ row, expected)
