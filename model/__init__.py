"""The science of difuso: schedules, plans, samplers, networks and checkpoints. No queue, no HTTP, no environment.

Names are imported when they are asked for, because front ends read configs with `model.bounds` and `model.files`, and
have no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from .config import ModelConfig
    from .errors import CheckpointError, ModelError, NonFiniteSample, PlanError
    from .plan import Plan, make_plan
    from .sampling import sample, sample_steps
    from .schedule import NoiseSchedule

_MODULES = {
    "checkpoint": ("Checkpoint", "load_checkpoint", "save_checkpoint"),
    "config": ("ModelConfig",),
    "errors": ("CheckpointError", "ModelError", "NonFiniteSample", "PlanError"),
    "plan": ("Plan", "make_plan"),
    "sampling": ("sample", "sample_steps"),
    "schedule": ("NoiseSchedule",),
}

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "ModelConfig",
    "ModelError",
    "NoiseSchedule",
    "NonFiniteSample",
    "Plan",
    "PlanError",
    "load_checkpoint",
    "make_plan",
    "sample",
    "sample_steps",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f".{module}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
