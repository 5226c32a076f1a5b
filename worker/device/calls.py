"""Calls of a network: with arguments by position, with a batch of one of the sizes in use, and with an example."""

from collections.abc import Callable

import torch
from torch import Tensor

from difuso.model.checkpoint import Checkpoint
from difuso.model.folders.config import ModelConfig
from difuso.model.networks.layers.convolution import pack_convolutions

from .precision import computing, precision_on, prepare

Network = Callable[..., Tensor]
"""A network with its arguments by position: from a batch of arguments to a batch of outputs."""


def by_position(checkpoint: Checkpoint, device: torch.device) -> Network:
    """Returns a model's denoiser, moved to a device in the number format of its config, with arguments by position."""
    names, precision = checkpoint.config.input_names, precision_on(device, checkpoint.config)
    denoiser = prepare(checkpoint.denoiser, device, precision)
    pack_convolutions(denoiser)

    def call(x: Tensor, timesteps: Tensor, *inputs: Tensor) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        with computing(device, precision):
            out: Tensor = denoiser(x, timesteps, **dict(zip(names, inputs, strict=True)))
        return out

    return call


def padded(batch: Tensor, size: int) -> Tensor:
    """Repeats the last row until there are `size` rows; the results of the added rows are thrown away."""
    missing = size - len(batch)
    return batch if not missing else torch.cat([batch, batch[-1:].expand(missing, *batch.shape[1:])])


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
    return x, timesteps, {name: examples[name]() for name in config.input_names}
