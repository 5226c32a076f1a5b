"""Dark and bright images, which a noisy classifier learns to distinguish in seconds, and a model to guide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from difuso.model import save_checkpoint
from difuso.model.folders.config import ModelConfig, SamplerDefaults, ScheduleConfig
from difuso.model.networks.build import build_network
from difuso.model.networks.configs import UNetConfig

RECIPE = """
name = "guide"
guides = "{guides}"
batch_size = 16
max_steps = 60
learning_rate = 3e-3
weight_decay = 0.05
warmup_steps = 0
ema_decay = 0
precision = "float32"
log_every = 20
save_every = 60
sheet_every = 60

[network]
type = "classifier"
channels = 8
channel_mult = [1, 2]
num_res_blocks = 1
attention_levels = []
head_channels = 8
groups = 4

[data]
source = "npz"
path = "{images}"

[held_out]
path = "{others}"
"""
UNET: dict[str, Any] = {"channels": 8, "channel_mult": (1,), "groups": 4, "head_channels": 8, "num_res_blocks": 1}


def shades(count: int, seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Returns dark images, of class 0, and bright ones, of class 1, in turn; each with its own grain."""
    labels = np.arange(count) % 2
    grain = np.random.default_rng(seed).integers(-20, 21, (count, 8, 8, 3))
    return np.clip(np.where(labels == 1, 220, 35)[:, None, None, None] + grain, 0, 255).astype(np.uint8), labels


def guided_model(folder: Path, *, classes: tuple[str, ...] | None = ("dark", "bright")) -> Path:
    """Returns a model whose untrained network predicts v = 0, as the ideal network of pure noise does."""
    network = UNetConfig(num_classes=None if classes is None else len(classes), **UNET)
    config = ModelConfig(
        network,
        image_size=8,
        prediction="v",
        classes=classes,
        schedule=ScheduleConfig("cosine"),
        defaults=SamplerDefaults("ddpm", 25, "linspace"),
        training={"note": "kept"},
    )
    save_checkpoint(folder, config, build_network(network))
    return folder


def write_recipe(folder: Path, *, guides: Path) -> Path:
    """Writes images, held-out images and the recipe of a classifier of them; returns the recipe's path."""
    for name, seed in (("images", 0), ("others", 1)):
        np.savez(folder / f"{name}.npz", *shades(64, seed))
    path = folder / "guide.toml"
    text = RECIPE.format(guides=guides, images=folder / "images.npz", others=folder / "others.npz")
    path.write_text(text, encoding="utf-8")
    return path
