"""Pictures of images of any number of channels, for people."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from difuso.model.errors import CheckpointError
from difuso.model.folders.config import ModelConfig
from difuso.model.folders.config_json import config_from_json, config_to_json
from difuso.model.networks.configs import UNetConfig
from difuso.model.pictures import as_pictures

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((8, 8, 16), (35, 35)),
        ((8, 8, 5), (26, 17)),
        ((16, 8, 64), (101, 98)),
        ((1, 256, 12), (23, 256)),
    ],
)
def test_slices_lie_row_by_row_in_a_grid_that_is_nearly_square(
    shape: tuple[int, int, int], size: tuple[int, int]
) -> None:
    height, width, channels = shape
    images = RNG.integers(0, 255, (2, *shape), dtype=np.uint8)
    grids = as_pictures(images)
    assert grids.shape == (2, *size, 1)
    columns = (size[1] + 1) // (width + 1)
    expected = np.full_like(grids, 255)
    for channel in range(channels):
        top, left = (each * side for each, side in zip(divmod(channel, columns), (height + 1, width + 1), strict=True))
        expected[:, top : top + height, left : left + width, 0] = images[..., channel]
    assert np.array_equal(grids, expected)


def test_three_channels_are_shown_as_colours_and_other_images_as_they_are() -> None:
    images = RNG.integers(0, 256, (2, 5, 7, 6), dtype=np.uint8)
    assert np.array_equal(as_pictures(images, (3, 0, 5)), images[..., [3, 0, 5]])
    for channels in (1, 3):
        assert np.array_equal(as_pictures(images[..., :channels]), images[..., :channels])


@pytest.mark.parametrize(
    ("channels", "shown", "message"),
    [
        (6, [3, 2, 6], "shown must name three of 6 channels, from 0 on"),
        (6, [3, 2, -1], "shown"),
        (3, [2, 1, 0], "shown must be left out: images of 3 channels are shown as they are"),
    ],
)
def test_other_channels_are_no_config(channels: int, shown: list[int], message: str) -> None:
    network = UNetConfig(in_channels=channels, out_channels=channels)
    content: dict[str, Any] = config_to_json(ModelConfig(network, channels=channels))
    assert "shown" not in content
    with pytest.raises(CheckpointError, match=message):
        config_from_json({**content, "shown": shown})


def test_a_config_keeps_what_is_shown() -> None:
    config = ModelConfig(UNetConfig(in_channels=64, out_channels=64), channels=64, shown=(3, 2, 63))
    assert config_from_json(config_to_json(config)) == config
