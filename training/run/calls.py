"""How the network is called in training: compiled or not, and in which number format."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._functorch import config as functorch

from ..recipe import Precision
from .processes import Processes

TIMED_CALLS = 3  # of which the fastest counts, after one that warms up
DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16}


def fastest(call: Callable[[Precision], None], device: torch.device, processes: Processes) -> Precision:
    """Returns the format in which a call takes the least time here, the same for all processes.

    bfloat16 is not faster everywhere.
    """

    def seconds(precision: Precision) -> float:
        started = time.perf_counter()
        call(precision)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    formats = list(DTYPES)
    least = [min([seconds(each) for _ in range(1 + TIMED_CALLS)][1:]) for each in formats]
    return formats[processes.most(least.index(min(least)), device)]


def compiled(network: nn.Module) -> Any:
    """Returns a network compiled, whose gradients have the number formats of those of the plain network.

    The trainer goes backward without autocast. A compiler that takes the format of the way forward would round
    gradients.
    """
    return functorch.patch(backward_pass_autocast="off")(torch.compile(network))
