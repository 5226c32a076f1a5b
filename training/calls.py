"""How a network is called in training: in which number format, and compiled or not."""

from collections.abc import Mapping
from statistics import median
from typing import Any, Literal

import torch
from torch import nn
from torch._functorch import config as functorch

from .recipe import Precision

# The numbers of bfloat16 that AVX512_BF16 multiplies at once. A pass forwards and backwards took 1.4 times as long in
# float32 with 32 channels, and 1.7 times with 48 and 64, where products take more of the time.
WIDE = 32


def format_of(precision: Precision | Literal["auto"], network: nn.Module, device: torch.device) -> Precision:
    """Returns the number format of a network's calls on a device: that of a recipe, or for `auto` the faster one.

    The faster one is bf16 where the processor multiplies bfloat16 and half of the layers have `WIDE` channels or more.
    """
    if precision != "auto":
        return precision
    layers = [layer.weight.shape[:2] for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    wide = bool(layers) and median(map(min, layers)) >= WIDE
    return "bf16" if wide and _multiplies_bf16(device) else "float32"


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able: Mapping[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # older versions of torch cannot say
    return device.type == "cpu" and any(able.get(name) for name in ("avx512_bf16", "amx_bf16"))


def autocast(precision: Precision, device: torch.device) -> torch.autocast:
    """Returns the context in which a network is called in a number format."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def compiled(network: nn.Module) -> Any:
    """Returns a network compiled, whose gradients have the number formats of those of the plain network.

    The trainer goes backward without autocast. A compiler that takes the format of the way forward would round
    gradients. All batches have one size, also where a teacher of the same class was compiled for another.
    """
    return functorch.patch(backward_pass_autocast="off")(torch.compile(network, dynamic=False))
