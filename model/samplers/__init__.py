"""One publication, one file. A sampler turns a chain into one transition per timestep; `SAMPLERS` lists them all."""

from __future__ import annotations

from .ddim import ddim
from .ddpm import ddpm
from .dpmpp import dpmpp
from .transition import Sampler, Transition

SAMPLERS: dict[str, Sampler] = {"ddpm": ddpm, "ddim": ddim, "dpmpp": dpmpp}

__all__ = ["SAMPLERS", "Sampler", "Transition"]
