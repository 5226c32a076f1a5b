"""A conditional U-Net sees an image with x_t, and how noisy that image is."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from difuso.model.errors import CheckpointError
from difuso.model.folders.config import ModelConfig
from difuso.model.folders.config_json import config_from_json, config_to_json
from difuso.model.network_inputs import augment, enlarge
from difuso.model.networks.configs import UNetConfig
from difuso.model.networks.unet import UNet
from tests.small_models import CONDITION
from tests.small_models import CONDITIONAL as CONFIG

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

MODEL = ModelConfig(CONFIG, image_size=16, condition=CONDITION)
TIMES = torch.tensor([10, 900])


def awake(config: UNetConfig) -> UNet:
    """A network whose layers that start at zero have random weights too."""
    torch.manual_seed(0)
    network = UNet(config)
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    return network.eval()


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("changes", [{}, {"patch": 2, "pixel_head": 4}, {"condition_channels": 1}], ids=str)
def test_each_image_depends_on_its_own_condition_and_level(changes: dict[str, Any]) -> None:
    config = dataclasses.replace(CONFIG, **changes)
    network, x = awake(config), noise(2, 3, 16, 16)
    condition = noise(2, config.condition_channels, 16, 16, seed=1)
    with torch.no_grad():
        out = network(x, TIMES, planes=condition)
        other = network(x, TIMES, planes=condition + torch.tensor([0.0, 1.0]).view(2, 1, 1, 1))
        inputs = network(x, TIMES, planes=condition, level=torch.tensor([0.0, 0.5]))
    assert out.shape == x.shape
    for changed in (other, inputs):
        assert torch.equal(changed[0], out[0])
        assert not torch.allclose(changed[1], out[1], atol=1e-3)


def test_every_weight_has_a_gradient() -> None:
    network = awake(dataclasses.replace(CONFIG, patch=2, pixel_head=4)).train()
    out = network(noise(2, 3, 16, 16), TIMES, planes=noise(2, 3, 16, 16, seed=1), level=torch.tensor([0.1, 0.2]))
    out.square().mean().backward()
    still = [
        name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert still == []


def test_augmentation_keeps_the_variance_of_normal_images_and_adds_nothing_at_level_0() -> None:
    images, added = noise(4, 3, 64, 64), noise(4, 3, 64, 64, seed=1)
    augmented = augment(images, torch.tensor([0.0, 0.3, 0.8, 1.0]), added)
    assert torch.equal(augmented[0], images[0])
    assert torch.equal(augmented[3], added[3])
    assert augmented.var(dim=(1, 2, 3)).tolist() == pytest.approx([1.0] * 4, abs=0.05)


@pytest.mark.parametrize("size", [16, 30, 32])
def test_enlarging_is_pillow_s_bicubic_filter(size: int) -> None:
    small = noise(1, 1, 16, 16)
    pillow = np.asarray(Image.fromarray(small[0, 0].numpy()).resize((size, size), Image.Resampling.BICUBIC))
    assert np.abs(enlarge(small, (size, size))[0, 0].numpy() - pillow).max() < 1e-5


def test_the_config_of_a_conditional_model_survives_json() -> None:
    assert config_from_json(config_to_json(MODEL)) == MODEL
    assert MODEL.small_shape == (3, 8, 8)
    assert dataclasses.replace(MODEL, network=UNetConfig(), condition=None).small_shape is None


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("condition", None, "a network that enlarges an image needs the table condition"),
        ("network.condition_channels", 0, "condition_channels must be 1 or 3, got 0"),
        ("network.condition_channels", 2, "condition_channels must be 1 or 3, got 2"),
        ("condition.size", 32, "condition.size must be at most image_size, 16"),
        ("condition.size", 0, "condition.size: Input should be greater than or equal to 1"),
        ("condition.augmentation", 0.6, "augmentation must be at most max_augmentation, 0.5"),
        ("condition.max_augmentation", 2.0, "condition.max_augmentation: Input should be less than or equal to 1"),
    ],
)
def test_a_config_that_contradicts_itself_is_refused(path: str, value: object, message: str) -> None:
    content = config_to_json(MODEL)
    *tables, key = path.split(".")
    (content[tables[0]] if tables else content)[key] = value
    with pytest.raises(CheckpointError, match=message):
        config_from_json(content)
