"""A batch that a network can be called with, for warming up and compiling."""

import torch
from torch import Tensor

from model.folders.config import ModelConfig


def example_batch(config: ModelConfig, size: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Returns x_t, timesteps, and the network's other arguments by name; the same at every call."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((size, *config.shape), generator=generator)
    timesteps = torch.randint(0, config.schedule.num_train_timesteps, (size,), generator=generator).float()
    seen = (size, config.network.condition_channels, *x.shape[2:])
    examples = {
        "labels": lambda: torch.zeros(size, dtype=torch.int64),
        "vector": lambda: torch.randn((size, config.network.vector_size), generator=generator),
        "planes": lambda: torch.randn(seen, generator=generator),
        "level": lambda: torch.zeros(size),
    }
    return x, timesteps, {name: examples[name]() for name in config.told}
