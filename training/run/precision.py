"""The number format of the network's calls, and what float16 needs: a scale that lifts small gradients above zero."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from ..recipe import Precision
from .processes import Processes

LEAST_SCALE = 1.0
CANDIDATES: tuple[Precision, ...] = ("float32", "bf16")
TIMED_CALLS = 3  # of which the fastest counts, after one that warms up
DTYPES: dict[Precision, torch.dtype] = {"float32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Scaler(torch.amp.GradScaler):
    """Scales the loss if the format is float16, and else does nothing.

    The scale halves when a gradient overflows and doubles after 2000 that did not. It does not fall below
    `LEAST_SCALE`: otherwise NaN with another cause would drive it to zero, and all gradients with it.
    """

    def __init__(self, precision: Precision | None, device: torch.device) -> None:
        super().__init__(device.type, enabled=precision == "fp16")

    @property
    def can_fall(self) -> bool:
        """Whether a smaller scale may still cure a gradient that is not finite."""
        return self.is_enabled() and self.get_scale() > LEAST_SCALE

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Adapts the scale; call it after every step, also after a skipped one."""
        super().update(new_scale)
        if self.is_enabled() and self.get_scale() < LEAST_SCALE:
            super().update(LEAST_SCALE)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if state_dict:  # of a run that had another format until now, it is empty
            super().load_state_dict(state_dict)


def timed_formats(call: Callable[[Precision], None], device: torch.device) -> dict[Precision, float]:
    """Returns the seconds that a call takes in each format: a forward and a backward pass."""

    def seconds(precision: Precision) -> float:
        started = time.perf_counter()
        call(precision)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    return {each: min([seconds(each) for _ in range(1 + TIMED_CALLS)][1:]) for each in CANDIDATES}


def fastest(seconds: Mapping[Precision, float], device: torch.device, processes: Processes) -> Precision:
    """Returns the format of the least time here: bfloat16 is faster only on some processors and for wide networks.

    All processes agree.
    """
    return CANDIDATES[processes.most(CANDIDATES.index(min(seconds, key=seconds.__getitem__)), device)]
