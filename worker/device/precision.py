"""The number format in which a network is computed, and what a device does with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch
from torch import nn

from difuso.model.folders.config import ModelConfig, Precision
from difuso.model.foreign.config import ForeignConfig
from difuso.model.networks.half import to_bfloat16

_calling = Lock()  # whose holder decides about TF32, which PyTorch allows a whole process or none of it


def precision_on(device: torch.device, config: ModelConfig) -> Precision:
    """Returns the format in which a model's network is computed on a device.

    It is float32 in place of a format that cannot be: only a GPU has TF32, and only networks of difuso itself say which
    of their layers may be bfloat16.
    """
    match config.precision:
        case "tf32" if device.type != "cuda":
            return "float32"
        case "bfloat16" if isinstance(config.network, ForeignConfig):
            return "float32"
    return config.precision


def prepare(network: nn.Module, device: torch.device, precision: Precision) -> nn.Module:
    """Moves a network to its device and puts it in its number format; changes and returns it.

    Its images are to be in the memory format `channels_last`.
    """
    network = network.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if precision == "bfloat16":
        to_bfloat16(network)
    return network


@contextmanager
def computing(device: torch.device, precision: Precision) -> Iterator[None]:
    """Lets a GPU round products to TF32 if that is the format, and only then, until the context ends."""
    if device.type != "cuda":
        yield
        return
    with _calling:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        yield
