"""A process that saves for ever, as a run does at the end of each of its stretches, for tests that kill it."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from difuso.model import ModelConfig, save_checkpoint
from difuso.model.networks.build import build_network
from difuso.model.networks.configs import UNetConfig
from difuso.training.run.state import save_state

CONFIG = ModelConfig(
    network=UNetConfig(channels=32, channel_mult=(1, 2), attention_levels=(), groups=8, head_channels=32), image_size=16
)


def save_for_ever(out: Path, first: int) -> None:
    """Saves steps from `first` on; every weight of a step is the step's number modulo 1000."""
    torch.set_num_threads(1)
    network = build_network(CONFIG.network).requires_grad_(False)
    for step in range(first, first + 10**6):
        for parameter in network.parameters():
            parameter.fill_(step % 1000)
        save_state(out, {"step": step, "network": network.state_dict()})
        save_checkpoint(out / "model", CONFIG, network)


if __name__ == "__main__":
    save_for_ever(Path(sys.argv[1]), int(sys.argv[2]))
