"""The number format in which a network is computed: what a device does with it, and how fast."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import torch
from torch import nn

from difuso.model.folders.config import ModelConfig, Precision
from difuso.model.foreign.config import ForeignConfig
from difuso.model.networks.half import to_bfloat16

FAST_BFLOAT16 = ("amx_bf16", "bf16", "sve_bf16")  # instructions of x86 and ARM, as PyTorch names them
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


def is_slow(device: torch.device, precision: Precision) -> bool:
    """Returns whether a device has no fast instructions for a format, and so takes longer with it than in float32.

    Those of AVX512-BF16 count as fast, except Intel's: a Xeon lost a quarter by them (benchmarks/results/speed.md).
    """
    if precision != "bfloat16":
        return False
    if device.type == "cuda":
        return not torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities()
    by_vectors = able.get("avx512_bf16") and "Intel" not in able.get("cpu_name", "")
    return device.type == "cpu" and not (by_vectors or any(able.get(name) for name in FAST_BFLOAT16))


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
