"""Networks of 8x8 images with random weights, for tests that need a whole model but no good images."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from difuso.drawing.drawing import LocalModel
from difuso.jobs.catalog import ModelInfo
from difuso.model.checkpoint import Checkpoint
from difuso.model.conditions import Choice, Condition, Image, ImageMap, Number, Vector, plane_count, vector_size
from difuso.model.folders.config import ConditionConfig, ModelConfig, SamplerDefaults
from difuso.model.networks.build import build_network
from difuso.model.networks.classifier import Classifier
from difuso.model.networks.configs import ClassifierConfig, UNetConfig
from difuso.model.networks.network_config import NetworkConfig
from difuso.model.shape import ImageSize, Shape
from difuso.worker.stepping.runner import Runner

NETWORK: dict[str, Any] = {
    "channels": 8,
    "channel_mult": (1, 2),
    "attention_levels": (1,),
    "head_channels": 8,
    "groups": 4,
}
CLASSES = ("circle", "square", "star")
WEAKER: dict[str, Any] = NETWORK | {"channel_mult": (1,), "attention_levels": (0,)}  # smaller, as it should be
CLASSIFIER = ClassifierConfig(image_size=8, num_classes=len(CLASSES), num_res_blocks=1, **NETWORK)


def checkpoint_of(network: NetworkConfig, *, image_size: ImageSize = 8, **fields: Any) -> Checkpoint:
    """Returns a model of this network; `fields` are further fields of its config."""
    config = ModelConfig(network, image_size=image_size, prediction="v", **fields)
    classifier = None if config.classifier is None else awake(Classifier(config.classifier))
    weaker = None if config.weaker is None else awake(build_network(config.weaker))
    schedule, own = config.schedule.build(), awake(build_network(config.network))
    return Checkpoint("m", config, own, schedule, "ab" * 32, classifier, weaker)


def checkpoint_of_shape(shape: Shape) -> Checkpoint:
    """Returns a model whose images have this shape."""
    network = UNetConfig(in_channels=shape.channels, out_channels=shape.channels, **NETWORK)
    return checkpoint_of(network, image_size=shape.image_size, channels=shape.channels)


def awake(network: nn.Module) -> Any:
    """Sets random weights where a fresh network has zeros, which would make all images and labels alike."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return network.requires_grad_(False).eval()


# Models of 16x16 images that draw from images of 8x8.
CONDITIONAL = UNetConfig(
    channels=8,
    channel_mult=(1, 2),
    num_res_blocks=1,
    attention_levels=(),
    mid_attention=False,
    groups=4,
    condition_channels=3,
)
CONDITION = ConditionConfig(size=8, max_augmentation=0.5, augmentation=0.1)


# Of a model of 8x8 images with conditions of every type, which needs a style and a layout.
CONDITIONS: dict[str, Condition] = {
    "age": Number(0, 100, "years", null=True),
    "glasses": Choice(("none", "round"), null=True),
    "style": Vector(2),
    "layout": ImageMap(("sky", "road")),
    "sketch": Image(1, 4, null=True),
}
WITH_ALL = UNetConfig(
    num_classes=len(CLASSES),
    vector_size=vector_size(CONDITIONS),
    condition_channels=plane_count(CONDITIONS),
    **NETWORK,
)


def conditional_checkpoint(**fields: Any) -> Checkpoint:
    """A model with classes and all conditions; `fields` are more of its config."""
    return checkpoint_of(WITH_ALL, classes=CLASSES, conditions=CONDITIONS, **fields)


def upscaler_of(network: UNetConfig = CONDITIONAL, **fields: Any) -> Checkpoint:
    """Returns a model that enlarges the images of `checkpoint_of`; `fields` are further fields of its config."""
    own: dict[str, Any] = {"condition": CONDITION, "defaults": SamplerDefaults("ddim", 3, "trailing"), "image_size": 16}
    config = ModelConfig(network, prediction="v", **(own | fields))
    return Checkpoint("up", config, awake(build_network(network)), config.schedule.build(), "cd" * 32)


def model_of(runner: Runner) -> LocalModel:
    """Returns the model that a runner draws."""
    checkpoint = runner.checkpoint
    return LocalModel(ModelInfo(checkpoint.name, checkpoint.config, 0, checkpoint.version), lambda: runner)
