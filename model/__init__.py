"""The science of difuso: schedules, plans, samplers, networks and checkpoints. No queue, no HTTP, no environment.

Modules that need torch are loaded when they are first used, so that front ends can read configs and make plans without
torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .errors import CheckpointError, ModelError, NonFiniteSample, PlanError
from .folders.config import ModelConfig
from .guidance import Guidance
from .plans.plan import Plan, make_plan
from .plans.plugins import plug_in
from .plans.samplers import Sampler
from .plans.samplers.transition import Transition
from .plans.schedule import NoiseSchedule

if TYPE_CHECKING:
    from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
    from .sampling import networks_of, sample

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "Guidance",
    "ModelConfig",
    "ModelError",
    "NoiseSchedule",
    "NonFiniteSample",
    "Plan",
    "PlanError",
    "Sampler",
    "Transition",
    "load_checkpoint",
    "make_plan",
    "networks_of",
    "plug_in",
    "sample",
    "save_checkpoint",
]


def __getattr__(name: str) -> Any:
    """Imports the names that need torch on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = "sampling" if name in ("networks_of", "sample") else "checkpoint"
    return getattr(import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return __all__
