"""The samplers: each is a function that makes a chain into one transition per network call."""

from collections.abc import Callable
from dataclasses import dataclass

from ..schedule import NoiseSchedule
from . import multistep, single_step
from .transition import Options, Transition

MOST_ETA = 10.0  # of any sampler; far more noise than has helped a network yet


@dataclass(frozen=True)
class Sampler:
    """A publication's way through a chain."""

    # from a chain, least noisy level first, to one transition per network call, in the order of the calls
    transitions: Callable[[NoiseSchedule, Options], list[Transition]]
    levels: Callable[[int], int] = lambda steps: steps  # how many levels a run of so many network calls visits
    spacing: str | None = None  # the spacing that suits it best; None for the model's own
    most_eta: float = 0.0  # the largest stochasticity that it can be asked for; 0 if it has none
    has_variance: bool = False  # whether it is ancestral sampling, which always draws noise, of this variance
    from_pure_noise: bool = True  # whether it can begin where nothing is left of the image


SAMPLERS: dict[str, Sampler] = {
    "ddpm": Sampler(single_step.ddpm, has_variance=True),
    "ddim": Sampler(single_step.ddim, most_eta=1.0),
    # In few calls the last of trailing lies in much noise, T / steps, where the finest details cannot be seen.
    "dpmpp": Sampler(multistep.dpmpp, spacing="exponential", most_eta=MOST_ETA),
    "dpmpp_3m": Sampler(multistep.dpmpp_3m, spacing="exponential"),
    "unipc": Sampler(multistep.unipc, spacing="exponential"),
    # In sigma, DDIM without noise is Euler's method (Song et al. 2021, eq. 14); the grid is that of Karras et al. 2022.
    "euler": Sampler(single_step.ddim, spacing="karras"),
    # All levels but the last are called at twice.
    "heun": Sampler(single_step.heun, lambda steps: steps // 2 + 1, spacing="karras", from_pure_noise=False),
}
