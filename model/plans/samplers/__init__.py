"""The samplers: each is a function that makes a chain into one transition per network call."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ..schedule import NoiseSchedule
from . import linear_multistep, multistep, single_step, two_stage
from .transition import Options, Transition

MOST_ETA = 10.0  # of any sampler; far more noise than has helped a network yet


@dataclass(frozen=True)
class Sampler:
    """A publication's way through a chain, or one of your own; see `model.plans.plugins`.

    Examples:
        >>> def rows(chain, options):  # to the clean image of each call, noised anew as at the level before
        ...     signal, spread = chain.alphas_cumprod_prev**0.5, (1 - chain.alphas_cumprod_prev) ** 0.5
        ...     return [Transition(i, a=0.0, b=signal[i], e=spread[i]) for i in reversed(range(len(signal)))]
        >>> [row.level for row in Sampler(rows).transitions(NoiseSchedule.linear(3), Options())]
        [2, 1, 0]
    """

    # from a chain, least noisy level first, to one transition per network call, in the order of the calls. It follows
    # from its arguments alone, and raises PlanError, or any other error, where it has none
    transitions: Callable[[NoiseSchedule, Options], list[Transition]]
    levels: Callable[[int], int] = lambda steps: steps  # how many levels a run of so many network calls visits
    calls: Callable[[int], int] = lambda levels: levels  # how many network calls a run over so many levels makes
    spacing: str | None = None  # the spacing that suits it best; None for the model's own
    most_eta: float = 0.0  # the largest stochasticity that it can be asked for; 0 if it has none
    has_variance: bool = False  # whether it uses the variance of ancestral sampling
    always_noisy: bool = False  # whether it draws noise on its way with any settings
    from_pure_noise: bool = True  # whether it can begin where nothing is left of the image


# levels and calls of a sampler that calls at all levels but the noisiest twice
TWICE = (lambda steps: steps // 2 + 1, lambda levels: 2 * levels - 1)

SAMPLERS: dict[str, Sampler] = {
    "ddpm": Sampler(single_step.ddpm, has_variance=True, always_noisy=True),
    "ddim": Sampler(single_step.ddim, most_eta=1.0),
    # In few calls the last of trailing lies in much noise, T / steps, where the finest details cannot be seen.
    "dpmpp": Sampler(multistep.dpmpp, spacing="exponential", most_eta=MOST_ETA),
    "dpmpp_sde": Sampler(multistep.dpmpp_sde, spacing="exponential", always_noisy=True),
    "dpmpp_3m": Sampler(multistep.dpmpp_3m, spacing="exponential"),
    "dpmpp_3m_full": Sampler(partial(multistep.dpmpp_3m, last=3), spacing="exponential"),
    "unipc": Sampler(multistep.unipc, spacing="exponential"),
    # In sigma, DDIM without noise is Euler's method (Song et al. 2021, eq. 14); the grid is that of Karras et al. 2022.
    "euler": Sampler(single_step.ddim, spacing="karras"),
    "heun": Sampler(single_step.heun, *TWICE, spacing="karras", from_pure_noise=False),
    "heun_flow": Sampler(single_step.heun_flow, *TWICE, spacing="trailing"),
    "lcm": Sampler(single_step.lcm, spacing="trailing", always_noisy=True),
    "lms": Sampler(linear_multistep.lms, spacing="karras", from_pure_noise=False),
    # The second level is called at twice.
    "plms": Sampler(
        linear_multistep.plms,
        lambda steps: max(steps - 1, min(steps, 2)),
        lambda levels: levels + (levels > 1),
        spacing="karras",
        from_pure_noise=False,
    ),
    "ipndm": Sampler(linear_multistep.ipndm, spacing="karras"),
    "deis": Sampler(linear_multistep.deis, spacing="karras", from_pure_noise=False),
    "deis_3": Sampler(partial(linear_multistep.deis, order=3), spacing="karras", from_pure_noise=False),
    "dpm2": Sampler(two_stage.dpm2, spacing="karras", from_pure_noise=False),
    "dpm2_ancestral": Sampler(
        two_stage.dpm2_ancestral, *TWICE, spacing="karras", always_noisy=True, from_pure_noise=False
    ),
    "dpmpp_2s": Sampler(two_stage.dpmpp_2s, spacing="karras", from_pure_noise=False),
}
