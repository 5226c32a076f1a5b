"""The networks that are measured. Their weights are random: speed does not depend on what a network has learned."""

import shutil
from pathlib import Path

import torch

from difuso.model import ModelConfig, save_checkpoint
from difuso.model.folders.config import SamplerDefaults
from difuso.model.networks.build import build_network
from difuso.model.networks.configs import PaperUNetConfig, UNetConfig

# 1.1 M parameters: small enough that a server's own work shows.
TINY = ModelConfig(
    network=UNetConfig(channels=32, channel_mult=(1, 2, 2), num_res_blocks=1, groups=8),
    image_size=32,
    defaults=SamplerDefaults(spacing="trailing"),
)
# The network of the paper, 23.3 M parameters.
PAPER = ModelConfig(network=PaperUNetConfig(), image_size=64)
# The network of DDPM for CIFAR-10, 35.7 M parameters (Ho et al. 2020, appendix B).
CIFAR = ModelConfig(network=UNetConfig(attention_levels=(1,), head_channels=256), image_size=32)
# The network of ADM for ImageNet 64x64, 295 M parameters (Dhariwal & Nichol 2021, table 11), without its classes.
ADM = ModelConfig(
    network=UNetConfig(
        out_channels=6,
        channels=192,
        channel_mult=(1, 2, 3, 4),
        num_res_blocks=3,
        attention_levels=(1, 2, 3),
        head_channels=64,
        time_injection="scale_shift",
        resample="resblock",
    ),
    image_size=64,
    variance="learned_range",
)


def random_model(folder: Path, config: ModelConfig, *, seed: int = 0) -> Path:
    """Writes a checkpoint with random weights of a seed and returns its folder."""
    torch.manual_seed(seed)
    network = build_network(config.network)
    for parameter in network.parameters():
        if not parameter.any():  # else the last convolution, which begins at zero, would predict nothing
            torch.nn.init.normal_(parameter, std=0.02)
    save_checkpoint(folder, config, network)
    return folder


def copy_model(source: Path, folder: Path) -> Path:
    """Copies a checkpoint, so that a training run that replaces the checkpoint cannot disturb the measurement."""
    for name in ("config.json", "model.safetensors", "SHA256SUMS"):
        if not (source / name).is_file():
            raise SystemExit(f"{source} is not a checkpoint: {name} is missing. Name one with --model, or use --tiny")
    folder.mkdir(parents=True)
    for path in source.iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    return folder
