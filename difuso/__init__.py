"""The command line, the supervisor that runs everything on one machine, and the client of a server.

The client's names, and those of `difuso.model`, are loaded when they are first used: `import difuso` loads nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client import AsyncClient, Client
    from .model import (
        NoiseSchedule,
        Plan,
        PlanError,
        Sampler,
        Transition,
        load_checkpoint,
        make_plan,
        networks_of,
        plug_in,
        sample,
        save_checkpoint,
    )

CLIENT = ("AsyncClient", "Client")
__all__ = [
    "AsyncClient",
    "Client",
    "NoiseSchedule",
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
    """Imports a name on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".client" if name in CLIENT else ".model", __name__), name)


def __dir__() -> list[str]:
    return __all__
