"""Degradations y = H x + noise that can be undone: each is diagonal between two orthonormal bases, H = U S V^T.

Each of an image's coordinates V^T x is measured alone, with its singular value as the weight; a singular value of 0
means that the coordinate is not measured. So a restoration needs only `singular_values`, the way to the coordinates and
back, and the measurement in these coordinates.
"""

from copy import copy
from typing import Protocol, Self

import torch
from torch import Tensor

from .memory import upload

LEAST_SINGULAR_VALUE = 3e-2  # of blurs: weaker coordinates count as lost, because their noise would be amplified


class Operator(Protocol):
    """A degradation of images of shape (C, H, W), float32; its attributes are numbers, tensors, tuples of tensors."""

    singular_values: Tensor  # the singular value of each coordinate, shape (C, H, W); 0 where nothing is measured

    def to_coordinates(self, x: Tensor) -> Tensor:
        """Returns V^T x, shape (C, H, W)."""

    def from_coordinates(self, coordinates: Tensor) -> Tensor:
        """Returns V c, shape (C, H, W)."""

    def apply(self, x: Tensor) -> Tensor:
        """Returns H x, in the shape of a measurement."""

    def read(self, y: Tensor) -> Tensor:
        """Returns S^+ U^T y: the measured coordinates, shape (C, H, W); 0 where nothing is measured."""

    def to(self, device: torch.device) -> Self:
        """Returns it with its bases on another device, for images there."""
        moved = copy(self)
        for name, value in vars(self).items():
            if isinstance(value, tuple):
                setattr(moved, name, tuple(upload(each, device) for each in value))
            elif isinstance(value, Tensor):
                setattr(moved, name, upload(value, device))
        return moved


class Inpainting(Operator):
    """Some pixels are missing: those of a mask of shape (H, W), bool, in all channels."""

    def __init__(self, missing: Tensor, channels: int) -> None:
        self.singular_values = (~missing).float().expand(channels, -1, -1).clone()

    def to_coordinates(self, x: Tensor) -> Tensor:
        return x

    def from_coordinates(self, coordinates: Tensor) -> Tensor:
        return coordinates

    def apply(self, x: Tensor) -> Tensor:
        return x * self.singular_values

    def read(self, y: Tensor) -> Tensor:
        return y * self.singular_values


class SuperResolution(Operator):
    """Each block of factor x factor pixels is measured as its mean; factor divides H and W of the shape (C, H, W).

    The coordinates of a block are its cosine transform. The first coordinate is factor times the mean.
    """

    def __init__(self, factor: int, shape: tuple[int, int, int]) -> None:
        self._factor = factor
        self._cosines = cosine_basis(factor)
        self.singular_values = torch.zeros(shape)
        self.singular_values[:, ::factor, ::factor] = 1.0 / factor

    def to_coordinates(self, x: Tensor) -> Tensor:
        return self._join(self._cosines @ self._split(x) @ self._cosines.T)

    def from_coordinates(self, coordinates: Tensor) -> Tensor:
        return self._join(self._cosines.T @ self._split(coordinates) @ self._cosines)

    def apply(self, x: Tensor) -> Tensor:
        return self._split(x).mean(dim=(-2, -1))

    def read(self, y: Tensor) -> Tensor:
        coordinates = torch.zeros_like(self.singular_values)
        coordinates[:, :: self._factor, :: self._factor] = self._factor * y
        return coordinates

    def _split(self, x: Tensor) -> Tensor:
        """Splits (C, H, W) into blocks, shape (C, H / f, W / f, f, f)."""
        f = self._factor
        channels, height, width = x.shape
        return x.reshape(channels, height // f, f, width // f, f).transpose(2, 3)

    def _join(self, blocks: Tensor) -> Tensor:
        return blocks.transpose(2, 3).flatten(3, 4).flatten(1, 2)


class Colorization(Operator):
    """Each pixel of images of a shape (C, H, W) is measured as the mean of its channels."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self._basis = cosine_basis(shape[0])  # its first row is the grey direction
        self._weight = shape[0] ** -0.5
        self.singular_values = torch.zeros(shape)
        self.singular_values[0] = self._weight

    def to_coordinates(self, x: Tensor) -> Tensor:
        return torch.einsum("kc,chw->khw", self._basis, x)

    def from_coordinates(self, coordinates: Tensor) -> Tensor:
        return torch.einsum("kc,khw->chw", self._basis, coordinates)

    def apply(self, x: Tensor) -> Tensor:
        return x.mean(dim=0, keepdim=True)

    def read(self, y: Tensor) -> Tensor:
        coordinates = torch.zeros_like(self.singular_values)
        coordinates[:1] = y / self._weight
        return coordinates


class Blur(Operator):
    """The same blur along rows and columns, mirrored at edges, by a symmetric kernel, shape (K,), K odd, sum 1."""

    def __init__(self, kernel: Tensor, shape: tuple[int, int, int]) -> None:
        # M = U S V^T of the columns of an image, and of its rows
        matrices = tuple(blur_matrix(kernel, side) for side in shape[1:])
        u, values, vt = zip(*map(torch.linalg.svd, matrices), strict=True)
        self._matrices, self._u, self._vt = (tuple(each.float() for each in both) for both in (matrices, u, vt))
        weights = torch.outer(*values)
        weights[weights < LEAST_SINGULAR_VALUE] = 0.0
        self.singular_values = weights.float().expand(shape).clone()

    def to_coordinates(self, x: Tensor) -> Tensor:
        down, along = self._vt
        return down @ x @ along.T

    def from_coordinates(self, coordinates: Tensor) -> Tensor:
        down, along = self._vt
        return down.T @ coordinates @ along

    def apply(self, x: Tensor) -> Tensor:
        down, along = self._matrices
        return down @ x @ along.T

    def read(self, y: Tensor) -> Tensor:
        down, along = self._u
        return torch.where(self.singular_values > 0, down.T @ y @ along / self.singular_values, 0.0)


def gaussian_kernel(width: float) -> Tensor:
    """Returns a Gaussian up to three standard deviations, shape (K,), float64; `width` is the deviation in pixels."""
    radius = max(1, round(3 * width))
    weights = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float64) / width) ** 2)
    return weights / weights.sum()


def uniform_kernel(width: int) -> Tensor:
    """Returns the kernel of the mean of `width` pixels, an odd number; shape (width,), float64."""
    return torch.full((width,), 1.0 / width, dtype=torch.float64)


def blur_matrix(kernel: Tensor, size: int) -> Tensor:
    """Returns the blur of one row of pixels, mirrored at its ends, as a matrix, shape (size, size), float64."""
    radius = len(kernel) // 2
    matrix = torch.zeros((size, size), dtype=torch.float64)
    for i in range(size):
        for offset, weight in enumerate(kernel.tolist(), start=-radius):
            place = (i + offset) % (2 * size)  # the row and its mirror image alternate
            matrix[i, min(place, 2 * size - 1 - place)] += weight
    return matrix


def cosine_basis(size: int) -> Tensor:
    """Returns the discrete cosine transform (type II), shape (size, size); rows are orthonormal, the first constant."""
    k, n = torch.arange(size, dtype=torch.float64)[:, None], torch.arange(size, dtype=torch.float64)
    rows = torch.cos(torch.pi * (n + 0.5) * k / size) * (2.0 / size) ** 0.5
    rows[0] = size**-0.5
    return rows.float()
