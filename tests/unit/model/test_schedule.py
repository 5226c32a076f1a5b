"""The forward process: its tables are the published ones, and any schedule has the properties that samplers rely on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from difuso.model import NoiseSchedule, PlanError
from difuso.model.noise import q_sample
from difuso.model.plans.spacing import SPACINGS, space_timesteps

LINEAR = NoiseSchedule.linear(1000)
TABLES = ("betas", "alphas_cumprod", "posterior_mean_coef1", "posterior_mean_coef2", "posterior_variance")

# Golden values: section 2.8 of the reference "diffusion-science", float64 arithmetic, printed to ten digits.
LINEAR_GOLDEN = {
    0: (1e-4, 0.9999, 1.0, 0.0, 0.0),
    1: (1.199199199e-4, 0.9997800921, 0.5452914995, 0.4547084990, 5.453187661e-5),
    2: (1.398398398e-4, 0.9996402830, 0.3887068359, 0.6112931603, 8.548911523e-5),
    99: (2.072072072e-3, 0.8970181457, 0.01907634532, 0.9808960213, 2.034596259e-3),
    499: (0.01004004004, 0.07858724288, 3.070071114e-3, 0.9941066702, 0.01003135541),
    999: (0.02, 4.035829765e-5, 1.283514872e-4, 0.9899486783, 0.01999998353),
}
SCHEDULES = {
    "linear": LINEAR,
    "scaled_linear": NoiseSchedule.scaled_linear(1000),
    "cosine": NoiseSchedule.cosine(1000),
    "cosine-4000": NoiseSchedule.cosine(4000),
    "short": NoiseSchedule.linear(7),
    "respaced": LINEAR.respace(space_timesteps("quad", 90, 1000)),
}
ZERO_SNR = {name: schedule.rescale_zero_terminal_snr() for name, schedule in SCHEDULES.items()}


@pytest.mark.parametrize("t", LINEAR_GOLDEN)
def test_linear_tables_are_the_published_ones(t: int) -> None:
    assert [getattr(LINEAR, table)[t] for table in TABLES] == pytest.approx(LINEAR_GOLDEN[t], rel=1e-9, abs=1e-16)


def test_linear_noise_level_in_units_of_the_image() -> None:
    """sqrt((1 - abar) / abar), section 2.8; six digits."""
    golden = [0.0100005, 0.0148309, 0.338828, 0.952936, 3.42414, 17.247, 157.407]
    assert LINEAR.sigmas[[0, 1, 99, 249, 499, 749, 999]] == pytest.approx(golden, rel=5e-6)


def test_cosine_betas_are_the_published_ones() -> None:
    betas = SCHEDULES["cosine"].betas
    # Section 2.8. The last one is capped.
    assert betas[[0, 997, 998, 999]] == pytest.approx([4.128422482e-5, 0.5555537567, 0.7499993929, 0.999], rel=1e-9)
    assert betas[500] == pytest.approx(3.1556914e-3, rel=1e-7)


def test_cosine_alphas_cumprod_are_the_published_ones() -> None:
    abar = SCHEDULES["cosine"].alphas_cumprod[[0, 249, 499, 749]]
    assert abar == pytest.approx([0.9999587158, 0.8470121613, 0.4938435904, 0.1442721024], rel=1e-9)
    assert SCHEDULES["cosine"].alphas_cumprod[999] == pytest.approx(2.43e-9, rel=2e-3)


def test_respaced_250_betas_are_the_published_ones() -> None:
    betas = LINEAR.respace(space_timesteps("linspace", 250, 1000)).betas
    golden = [1e-4, 5.990655645e-4, 9.176029929e-4, 0.03928879314, 0.07751934499]  # section 2.8
    assert betas[[0, 1, 2, 124, 249]] == pytest.approx(golden, rel=1e-9)
    assert np.prod(1 - betas) == pytest.approx(4.035829765e-5, rel=1e-9)  # abar[999]


@pytest.mark.parametrize(("steps", "spacing"), [*zip((1, 2, 30, 300), SPACINGS, strict=False)])
def test_respacing_keeps_alphas_cumprod(spacing: str, steps: int) -> None:
    """The product of the new (1 - beta') is the old abar at each timestep that is kept."""
    timesteps = space_timesteps(spacing, steps, 1000)
    respaced = LINEAR.respace(timesteps)
    assert respaced.alphas_cumprod == pytest.approx(LINEAR.alphas_cumprod[list(timesteps)], rel=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_every_schedule_only_adds_noise(schedule: NoiseSchedule) -> None:
    abar = schedule.alphas_cumprod
    assert ((abar > 0) & (abar < 1)).all()
    assert (np.diff(abar) < 0).all()
    assert schedule.alphas_cumprod_prev.tolist() == [1.0, *abar[:-1]]
    assert (schedule.posterior_variance <= schedule.betas).all()
    assert (schedule.posterior_mean_coef1[0], schedule.posterior_mean_coef2[0]) == (pytest.approx(1.0), 0.0)


@pytest.mark.parametrize(
    "schedule", [*SCHEDULES.values(), *ZERO_SNR.values()], ids=[*SCHEDULES, *(f"zero-{n}" for n in ZERO_SNR)]
)
def test_posterior_undoes_one_step_of_the_forward_process(schedule: NoiseSchedule) -> None:
    """The posterior applied to q(x_t | x0) gives back q(x_{t-1} | x0), in mean and variance."""
    s = schedule
    c1, c2 = s.posterior_mean_coef1, s.posterior_mean_coef2
    assert c1 + c2 * np.sqrt(s.alphas_cumprod) == pytest.approx(np.sqrt(s.alphas_cumprod_prev), rel=1e-9)
    variance = c2**2 * (1 - s.alphas_cumprod) + s.posterior_variance
    assert variance == pytest.approx(1 - s.alphas_cumprod_prev, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize(
    ("t", "abar", "rel"),
    [(0, 0.9999, 1e-9), (499, 0.07602875, 1e-7), (998, 4.213e-9, 2e-4), (999, 0.0, 0.0)],  # section 2.8
)
def test_zero_terminal_snr_values_are_the_published_ones(t: int, abar: float, rel: float) -> None:
    assert ZERO_SNR["linear"].alphas_cumprod[t] == pytest.approx(abar, rel=rel, abs=0)


@pytest.mark.parametrize("name", SCHEDULES)
def test_zero_terminal_snr_keeps_the_course_of_the_signal(name: str) -> None:
    """sqrt(abar) is shifted and scaled, to begin as before and end at 0 (Lin et al. 2024, algorithm 1)."""
    before, after = (np.sqrt(schedules[name].alphas_cumprod) for schedules in (SCHEDULES, ZERO_SNR))
    assert after[0] == pytest.approx(before[0], rel=1e-12)
    assert after[-1] == 0
    assert (ZERO_SNR[name].betas[-1], ZERO_SNR[name].sigmas[-1]) == (1.0, np.inf)
    assert np.diff(after) / np.diff(before) == pytest.approx(before[0] / (before[0] - before[-1]), rel=1e-7)


@pytest.mark.parametrize("name", ["linear", "cosine", "short"])
def test_timestep_at_is_the_inverse_of_sigmas(name: str) -> None:
    """Exact at timesteps, linear in log sigma between them, and the ends beyond."""
    schedule = SCHEDULES[name]
    sigmas, last = schedule.sigmas, schedule.num_train_timesteps - 1
    assert schedule.timestep_at(sigmas) == pytest.approx(np.arange(last + 1), abs=1e-9)
    between = sigmas[:-1] ** 0.75 * sigmas[1:] ** 0.25
    assert schedule.timestep_at(between) == pytest.approx(np.arange(last) + 0.25, abs=1e-9)
    assert schedule.timestep_at(np.array([sigmas[0] / 2, sigmas[-1] * 2])).tolist() == [0, last]


def test_tables_are_float64_and_cannot_be_written() -> None:
    assert LINEAR.betas.dtype == LINEAR.alphas_cumprod.dtype == np.float64
    with pytest.raises(ValueError, match="read-only"):
        LINEAR.betas[0] = 0.5


@pytest.mark.parametrize("betas", [[], [0.0, 0.1], [0.1, 1.1], [-0.1], [float("nan")], [[0.1]]])
def test_impossible_betas_are_refused(betas: list[float]) -> None:
    with pytest.raises(PlanError, match=r"betas must be .* in \(0, 1\]"):
        NoiseSchedule(np.array(betas))


def test_a_single_timestep_has_no_zero_terminal_snr() -> None:
    with pytest.raises(PlanError, match="betas of a single timestep"):
        NoiseSchedule.linear(1).rescale_zero_terminal_snr()


def test_q_sample_is_the_closed_form_with_a_timestep_per_image() -> None:
    """x_t = sqrt(abar_t) x0 + sqrt(1 - abar_t) noise, with abar of section 2.8."""
    x0, noise = torch.full((3, 1, 2, 2), 0.5), torch.full((3, 1, 2, 2), -1.0)
    x_t = q_sample(LINEAR, x0, torch.tensor([0, 499, 999]), noise)
    for image, abar in zip(x_t, (0.9999, 0.07858724288, 4.035829765e-5), strict=True):
        assert image.flatten().tolist() == pytest.approx([0.5 * abar**0.5 - (1 - abar) ** 0.5] * 4, abs=1e-7)
