"""The bound: equal to the published code's, to closed forms, and to the true likelihood where that is known.

Two denoisers need no network. One knows the image, so that every step hits the true posterior; the other is the best
for pixels ~ N(0, s^2), whose likelihood is a formula.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from difuso.model import NoiseSchedule, PlanError
from difuso.model.images import from_levels, to_uint8
from difuso.model.likelihood import Vlb, decoder_bits, prior_bits, vlb
from difuso.model.plans.clipping import Clipping
from difuso.model.plans.plan import Prediction, Variance
from difuso.model.plans.spacing import visit_levels
from difuso.model.sampling import Denoiser

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

LINEAR = NoiseSchedule.linear(1000)
ABAR = torch.from_numpy(LINEAR.alphas_cumprod)
UNCLIPPED = Clipping("none")
GREY = 101 / 127.5 - 1

# Two images with every grey level, black and white among them.
RAMP = from_levels((torch.arange(2 * 8 * 8 * 3) * 37 % 256).view(2, 8, 8, 3).to(torch.uint8))


def abar_at(t: Tensor, like: Tensor) -> Tensor:
    return ABAR[t].to(like).view(-1, 1, 1, 1)


def knowing(x0: Tensor, prediction: Prediction = "eps") -> Denoiser:
    """Finds the noise that is really in x_t."""

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        if prediction == "x0":
            return x0.expand_as(x_t)
        abar = abar_at(t, x_t)
        eps = (x_t - abar.sqrt() * x0) / (1 - abar).sqrt()
        return eps if prediction == "eps" else abar.sqrt() * eps - (1 - abar).sqrt() * x0

    return denoiser


def wavering(x_t: Tensor, t: Tensor) -> Tensor:
    """The true noise of `RAMP` and a wave that stands for an error; the second half is for a learned variance."""
    error = torch.cat([0.3 * torch.sin(3 * x_t), torch.cos(2 * x_t)], dim=1)
    return error + torch.cat([knowing(RAMP)(x_t, t), torch.zeros_like(x_t)], dim=1)


# improved-diffusion's calc_bpd_loop (float32) over its spacing "50" of 1000 steps, fed with the noise and the denoiser
# of this test: total_bpd of both images with clip_denoised, total_bpd without, and the last column of vb.
PUBLISHED: dict[Variance, tuple[tuple[float, float], ...]] = {
    "fixed_small": ((4.26397, 4.20807), (4.52887, 4.48245), (1.7239, 1.72405)),
    "fixed_large": ((5.05685, 5.05669), (5.31962, 5.32691), (1.7239, 1.72405)),
    "learned_range": ((4.09429, 4.06362), (4.35853, 4.33618), (1.73146, 1.73158)),
}


@pytest.mark.parametrize("variance", PUBLISHED)
def test_the_published_code_finds_the_same_bound(variance: Variance) -> None:
    clipped, unclipped, decoder = PUBLISHED[variance]
    levels = visit_levels(LINEAR, "linspace", 50)
    result = vlb(RAMP, wavering, levels, seeds=[5, 6], variance=variance)
    assert result.total.tolist() == pytest.approx(clipped, abs=2e-5)
    assert result.decoder.tolist() == pytest.approx(decoder, abs=2e-5)
    result = vlb(RAMP, wavering, levels, seeds=[5, 6], variance=variance, clipping=UNCLIPPED)
    assert result.total.tolist() == pytest.approx(unclipped, abs=2e-5)


# Parts


@pytest.mark.parametrize(
    ("x0", "variance", "bits"),
    [
        (GREY, LINEAR.posterior_variance[1], 1.3057),
        (GREY, 1e-4, 1.7130),
        (1.0, LINEAR.posterior_variance[1], 0.5099),
        (-1.0, LINEAR.posterior_variance[1], 0.5099),
    ],
)
def test_the_decoder_at_the_exact_mean(x0: float, variance: float, bits: float) -> None:
    """Section 4.6 of the reference "diffusion-science"."""
    pixel = torch.tensor(x0, dtype=torch.float64)
    assert decoder_bits(pixel, pixel, torch.tensor(math.log(variance))).item() == pytest.approx(bits, abs=5e-5)


@given(mean=st.floats(-1.5, 1.5), deviation=st.floats(1e-3, 1.0))
def test_the_decoder_s_grey_levels_are_a_distribution(mean: float, deviation: float) -> None:
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    bits = decoder_bits(levels, torch.tensor(mean), torch.tensor(2 * math.log(deviation), dtype=torch.float64))
    assert torch.exp2(-bits).sum().item() == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(("x0", "bits"), [(0.5, 7.3e-6), (1.0, 2.9e-5)])
def test_the_prior_of_the_linear_schedule(x0: float, bits: float) -> None:
    """Section 4.6 of the reference "diffusion-science"."""
    assert prior_bits(torch.tensor(x0, dtype=torch.float64), ABAR[-1].item()).item() == pytest.approx(bits, rel=0.01)


# Whole chains


def bound_of_knowing(steps: int, variance: Variance) -> Vlb:
    x0 = torch.full((2, 3, 4, 4), GREY, dtype=torch.float64)
    return vlb(x0, knowing(x0), visit_levels(LINEAR, "linspace", steps), seeds=[1, 2], variance=variance)


@pytest.mark.parametrize("steps", [1000, 20, 1])
def test_who_knows_the_image_pays_for_prior_and_decoder_alone(steps: int) -> None:
    """With the posterior's own variance; the decoder pays what section 4.6 says."""
    result = bound_of_knowing(steps, "fixed_small")
    assert result.terms.shape == (2, steps - 1)
    assert result.mse.shape == (2, steps)
    assert torch.allclose(result.terms, torch.zeros_like(result.terms), atol=1e-12)
    assert torch.allclose(result.mse, torch.zeros_like(result.mse), atol=1e-12)
    assert torch.allclose(result.total, result.prior + result.decoder)
    if steps == 1000:
        assert result.total.tolist() == pytest.approx([1.3057 + 0.5 * 4.0358e-5 * GREY**2 / math.log(2)] * 2, abs=5e-5)


def test_the_network_gets_the_original_timesteps() -> None:
    inputs: list[float] = []

    def denoiser(x_t: Tensor, t: Tensor) -> Tensor:
        assert x_t.dtype == torch.float32
        inputs.append(t.tolist()[0])
        return torch.zeros_like(x_t)

    for spacing in ("linspace", "trailing", "karras"):
        inputs.clear()
        levels = visit_levels(LINEAR, spacing, 5)
        assert torch.isfinite(vlb(RAMP, denoiser, levels, seeds=[1, 2]).total).all()
        assert inputs == pytest.approx(levels.timesteps[::-1], rel=1e-6)


def test_a_schedule_that_ends_in_pure_noise_needs_another_prediction_than_eps() -> None:
    levels = visit_levels(LINEAR.rescale_zero_terminal_snr(), "linspace", 20)
    assert torch.equal(vlb(RAMP, knowing(RAMP, "x0"), levels, seeds=[1, 2], prediction="x0").prior, torch.zeros(2))
    with pytest.raises(PlanError, match="such a model needs v or x0"):
        vlb(RAMP, wavering, levels, seeds=[1, 2])


# Where the likelihood is known

S = 0.25  # grey levels beyond 4 s do not exist, which costs nothing to speak of
SHORT = NoiseSchedule.linear(100, 1e-3, 0.2)


def gaussian_images() -> Tensor:
    noise = torch.randn((4, 3, 64, 64), generator=torch.Generator().manual_seed(0))
    return from_levels(to_uint8(S * noise)).double()


def gain(abar: Tensor) -> Tensor:
    """E[x0 | x_t] / x_t for pixels ~ N(0, s^2)."""
    return abar.sqrt() * S**2 / (abar * S**2 + 1 - abar)


def best(x_t: Tensor, t: Tensor) -> Tensor:
    """The best x0."""
    return gain(torch.from_numpy(SHORT.alphas_cumprod)[t].view(-1, 1, 1, 1)) * x_t


def best_with_variance(x_t: Tensor, t: Tensor) -> Tensor:
    """And the logarithm of the variance of q(x_{t-1} | x_t), which is normal here.

    x_{t-1} ~ N(0, p) and x_t = sqrt(1 - beta) x_{t-1} + noise of variance beta, so it is that of a Gaussian channel.
    """
    beta = torch.from_numpy(SHORT.betas.copy())[t]
    before = torch.from_numpy(SHORT.alphas_cumprod_prev)[t]
    p = before * S**2 + 1 - before
    variance = p * beta / ((1 - beta) * p + beta)
    return torch.cat([best(x_t, t), variance.log().view(-1, 1, 1, 1).expand_as(x_t)], dim=1)


def test_the_bound_is_the_likelihood_of_the_best_chain_and_above_it_for_others() -> None:
    """Of 49152 pixels; the draws of noise leave a deviation of 0.007 bits."""
    x0, whole, half = gaussian_images(), visit_levels(SHORT, "linspace", 100), visit_levels(SHORT, "linspace", 50)
    in_bin = torch.special.ndtr((x0 + 1 / 255) / S) - torch.special.ndtr((x0 - 1 / 255) / S)
    nll = -in_bin.log2().mean().item()
    entropy = 0.5 * math.log2(2 * math.pi * math.e * S**2) - math.log2(2 / 255)
    assert nll == pytest.approx(entropy, abs=0.01)
    exact = (
        vlb(x0, best_with_variance, whole, seeds=range(100, 104), prediction="x0", variance="learned")
        .total.mean()
        .item()
    )
    fixed, coarse = (
        vlb(x0, best, levels, seeds=range(100, 104), prediction="x0").total.mean() for levels in (whole, half)
    )
    assert exact == pytest.approx(nll, abs=0.02)
    assert fixed > nll + 0.1
    assert coarse > fixed + 0.1
