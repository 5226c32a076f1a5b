"""Tensors become PNG bytes and back without losing a level."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from difuso.model.images import from_levels, to_png, to_uint8

LEVELS = torch.arange(256, dtype=torch.uint8).view(1, 16, 16, 1)


def opened(png: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(png))
    image.load()
    return image


def test_every_level_survives_the_round_trip() -> None:
    assert torch.equal(to_uint8(from_levels(LEVELS)), LEVELS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_to_the_nearest_level(dtype: torch.dtype) -> None:
    """Anything within 0.49 of a level is that level; truncation would lose half of them."""
    exact = from_levels(LEVELS).to(dtype)
    for offset in (-0.49, 0.49):
        assert torch.equal(to_uint8(exact + offset / 127.5), LEVELS)


@pytest.mark.parametrize(
    ("value", "level"),
    [(-1.0, 0), (1.0, 255), (-1.5, 0), (1.5, 255), (float("-inf"), 0), (float("inf"), 255), (1 / 255, 128)],
)
def test_values_become_levels(value: float, level: int) -> None:
    """The ends are exact and what lies outside is clamped, not wrapped."""
    assert to_uint8(torch.full((1, 1, 1, 1), value)).item() == level


def test_channels_move_to_the_end_and_back() -> None:
    pixels = torch.arange(2 * 4 * 5 * 3, dtype=torch.uint8).view(2, 4, 5, 3)  # (B, H, W, C)
    assert from_levels(pixels).shape == (2, 3, 4, 5)
    assert torch.equal(to_uint8(from_levels(pixels)), pixels)


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_a_png_holds_the_pixels(channels: int, mode: str) -> None:
    pixels = torch.arange(4 * 5 * channels, dtype=torch.uint8).view(1, 4, 5, channels)
    image = opened(to_png(from_levels(pixels)[0]))
    assert (image.mode, image.size, image.format) == (mode, (5, 4), "PNG")
    assert np.array_equal(np.asarray(image).reshape(4, 5, channels), pixels[0])


def test_a_png_says_how_it_was_made() -> None:
    """iTXt chunks: any Unicode, with readable keys."""
    text = {"difuso": '{"seed": 7, "steps": 50}', "title": "niño 画像"}
    png = to_png(torch.zeros(3, 8, 8), text)
    assert png.count(b"iTXt") == 2
    assert opened(png).text == text  # type: ignore[attr-defined]


def test_the_same_picture_is_the_same_bytes() -> None:
    """No clock and no chance in the file: the ETag of a picture made again is the same."""
    image = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert to_png(image, {"seed": "1"}) == to_png(image.clone(), {"seed": "1"})
