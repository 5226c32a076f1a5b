"""One publication, one file. A sampler makes a chain into one transition per network call; `SAMPLERS` has them all."""

from .consistency import MOST_SIGMA, consistency
from .ddim import ddim
from .ddpm import ddpm
from .dpmpp import dpmpp
from .dpmpp_3m import dpmpp_3m
from .heun import heun
from .heun import levels as heun_levels
from .transition import Options, Sampler, Transition, Variance
from .unipc import unipc

MOST_ETA = 10.0  # of any sampler; far more noise than has helped a network yet

SAMPLERS: dict[str, Sampler] = {
    "ddpm": Sampler(ddpm, has_variance=True, always_noisy=True),
    "ddim": Sampler(ddim, most_eta=1.0),
    # From trailing's last level, T-1, to its first, which is not 0: a step of second order to 0 overshoots.
    "dpmpp": Sampler(dpmpp, spacing="trailing", most_eta=MOST_ETA),
    "dpmpp_3m": Sampler(dpmpp_3m, spacing="trailing"),
    "unipc": Sampler(unipc, spacing="trailing"),
    # In sigma, DDIM without noise is Euler's method (Song et al. 2021, eq. 14); the grid is that of Karras et al. 2022.
    "euler": Sampler(ddim, spacing="karras"),
    "consistency": Sampler(consistency, spacing="trailing", always_noisy=True, most_sigma=MOST_SIGMA),
    "heun": Sampler(heun, heun_levels, spacing="karras", from_pure_noise=False),
}

__all__ = ["MOST_ETA", "MOST_SIGMA", "SAMPLERS", "Options", "Sampler", "Transition", "Variance"]
