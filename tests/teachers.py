"""Teachers of 8x8 images with conditions, or with classes, from which tests make pairs."""

from __future__ import annotations

from typing import Any

from difuso.model.conditions import Choice, Number
from difuso.model.networks.configs import UNetConfig
from tests.small_models import CLASSES, NETWORK

HAIR: dict[str, Any] = {"age": Number(low=0, high=100, null=True), "hair": Choice(("long", "short", "none"), null=True)}
EXAMPLES: dict[str, Any] = {"age": (30.0, 1.0, 77.5, 50.0), "hair": ("short", "none", "long", "short")}
UNET = UNetConfig(vector_size=6, **NETWORK)
LABELLED = UNetConfig(num_classes=len(CLASSES), **NETWORK)
