"""The likelihood: the number of bits that the chain needs to describe an image (Ho et al. 2020, eq. 5).

The negative log-likelihood is at most

    vlb = L_T + sum of L_{t-1} + L_0

The prior L_T measures how much of the image is left in x_T. Each L_{t-1} measures how far one step of the chain is from
the true posterior. The decoder L_0 measures the uncertainty among the 256 grey levels after the last step. The chain is
that of ancestral sampling: its means come from the plan that a server runs, with clipping. Fewer levels make another
chain with recomputed betas; its bound does not estimate the bound of all T levels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .noise import draw_noise, image_generator, q_sample
from .plans.clipping import Clipping
from .plans.plan import Prediction, Variance, tabulate
from .plans.prediction import eps_from_output
from .plans.samplers.single_step import ddpm, deviation_at
from .plans.samplers.transition import Options
from .plans.schedule import NoiseSchedule
from .plans.spacing import Levels
from .sampling import Denoiser
from .step import advance

HALF_BIN = 1 / 255  # grey levels lie 2/255 apart in [-1, 1]
LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True, eq=False)
class Vlb:
    """The variational bound of B images over a chain of K levels, in bits per dimension; float64."""

    timesteps: tuple[float, ...]  # the timesteps of the levels, least noisy first
    prior: Tensor  # L_T, shape (B,)
    terms: Tensor  # L_{t-1} of `timesteps[1:]`, shape (B, K - 1)
    decoder: Tensor  # L_0, shape (B,)
    # squared error of eps at each level, shape (B, K). Its mean over the levels is L_simple (Ho et al. 2020, eq. 14):
    # the bound with other weights, so it is not in bits and not a likelihood.
    mse: Tensor

    @property
    def total(self) -> Tensor:
        """The bound, shape (B,)."""
        return self.prior + self.terms.sum(dim=1) + self.decoder


@torch.inference_mode()
def vlb(
    x0: Tensor,
    denoiser: Denoiser,
    levels: Levels,
    *,
    seeds: Sequence[int],
    prediction: Prediction = "eps",
    variance: Variance = "fixed_small",
    clipping: Clipping = Clipping(),
) -> Vlb:
    """Estimates the bound from one draw of noise for each image and level.

    The images x0 have 256 grey levels, shape (B, C, H, W), in [-1, 1]. The denoiser is called once per level of
    `levels`, the noisiest first, with all images. Fewer than T levels give the bound of the respaced chain.

    Raises PlanError if x0 does not follow from the prediction at one of the levels.
    """
    chain, images, channels = levels.chain, x0.double(), x0.shape[1]
    generators = [image_generator(seed) for seed, _ in zip(seeds, x0, strict=True)]
    transitions = ddpm(chain, Options(variance=variance))
    plan = tabulate(levels, transitions, prediction=prediction, clipping=clipping)
    rows = torch.from_numpy(plan.table.copy())
    bits, mse = [], []
    for row, transition, t in zip(rows, transitions, plan.timesteps, strict=True):
        level = transition.level
        noise = draw_noise(generators, (channels, *x0.shape[2:])).to(images)
        x_t = q_sample(chain, images, torch.full((len(x0),), level), noise)
        out = denoiser(x_t.to(x0.dtype), torch.full((len(x0),), t, device=x0.device)).double()
        predicted, learned = out[:, :channels], out[:, channels:]

        p_mean, _ = advance(x_t, torch.zeros_like(x_t), out, torch.zeros_like(x_t), row.expand(len(x0), -1))
        p_log_variance = _log_variance(chain, level, variance, learned)
        if level == 0:
            bits.append(_mean(decoder_bits(images, p_mean, p_log_variance)))
        else:
            q_mean = chain.posterior_mean_coef1[level] * images + chain.posterior_mean_coef2[level] * x_t
            bits.append(_mean(kl_bits(q_mean, float(chain.posterior_variance[level]), p_mean, p_log_variance)))

        from_x_t, from_out = eps_from_output(prediction, float(chain.alphas_cumprod[level]))
        mse.append(_mean((from_x_t * x_t + from_out * predicted - noise).square()))
    decoder, *terms = reversed(bits)
    return Vlb(
        timesteps=levels.timesteps,
        prior=_mean(prior_bits(images, float(chain.alphas_cumprod[-1]))),
        terms=torch.stack(terms, dim=1) if terms else decoder.new_empty(len(x0), 0),
        decoder=decoder,
        mse=torch.stack(mse[::-1], dim=1),
    )


def prior_bits(x0: Tensor, abar: float) -> Tensor:
    """Returns L_T of each pixel, in bits: KL of q(x_T | x0) = N(sqrt(abar) x0, 1 - abar) from p(x_T) = N(0, 1)."""
    return 0.5 * (abar * x0.square() - abar - math.log1p(-abar)) / math.log(2)


def kl_bits(q_mean: Tensor, q_variance: Tensor | float, p_mean: Tensor, p_log_variance: Tensor) -> Tensor:
    """Returns the KL divergence of the normal distribution q from p for each pixel, in bits."""
    spread = p_log_variance - torch.as_tensor(q_variance, dtype=p_log_variance.dtype).log()
    distance = (q_mean - p_mean).square() + q_variance
    return 0.5 * (spread - 1 + distance * torch.exp(-p_log_variance)) / math.log(2)


def decoder_bits(x0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Returns L_0 of each pixel: -log2 of the normal mass in the bin of its grey level (Ho et al. 2020, eq. 13).

    The outer bins are open. A tanh approximates the distribution function, as in the published code.
    """
    precision = torch.exp(-0.5 * log_variance)
    below = torch.where(x0 < -0.999, 0.0, _cdf((x0 - mean - HALF_BIN) * precision))
    above = torch.where(x0 > 0.999, 1.0, _cdf((x0 - mean + HALF_BIN) * precision))
    return -torch.log2((above - below).clamp(min=LEAST_PROBABILITY))


def _cdf(z: Tensor) -> Tensor:
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3)))


def _log_variance(chain: NoiseSchedule, level: int, variance: Variance, learned: Tensor) -> Tensor:
    """Returns the logarithm of the variance of p(x_{t-1} | x_t): one number, or one per pixel if it was learned."""
    deviation, v = deviation_at(chain, level, variance)
    fixed = 2 * math.log(deviation)
    return fixed + v * (learned + 1) if v else torch.tensor(fixed, dtype=torch.float64, device=learned.device)


def _mean(pixels: Tensor) -> Tensor:
    """Returns the mean of each image, shape (B,)."""
    return pixels.mean(dim=(1, 2, 3))
