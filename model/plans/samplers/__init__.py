"""One publication, one file. A sampler makes a chain into one transition per network call; `SAMPLERS` has them all."""

from __future__ import annotations

from .ddim import ddim
from .ddpm import ddpm
from .dpmpp import dpmpp
from .heun import heun
from .heun import levels as heun_levels
from .transition import Options, Sampler, Transition, Variance

SAMPLERS: dict[str, Sampler] = {
    "ddpm": Sampler(ddpm),
    "ddim": Sampler(ddim),
    "dpmpp": Sampler(dpmpp),
    "euler": Sampler(ddim),  # in sigma, DDIM without noise is Euler's method (Song et al. 2021, eq. 14)
    "heun": Sampler(heun, heun_levels),
}

__all__ = ["SAMPLERS", "Options", "Sampler", "Transition", "Variance"]
