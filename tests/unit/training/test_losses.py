"""Targets, weights, losses and the learning rate follow their formulae."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from difuso.model import NoiseSchedule, make_plan
from difuso.model.likelihood import vlb
from difuso.model.noise import draw_noise, image_generator, q_sample
from difuso.model.plans.clipping import Clipping
from difuso.model.plans.plan import Column, Prediction, Variance
from difuso.model.plans.schedule import Flow
from difuso.model.plans.spacing import visit_levels
from difuso.training.objective.losses import HYBRID_SHARE, CrossEntropy, Objective, target
from difuso.training.objective.weightings import weights as weights_of
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.progress import StepFacts, Window
from difuso.training.run.trainer import learning_rate

pytestmark = pytest.mark.processors

SCHEDULE = NoiseSchedule.linear(1000)
NOT_CLASSIFIED = torch.full((7,), math.nan)


def weights(schedule: NoiseSchedule, predicted: Prediction, name: str, t: Tensor, gamma: float | None = None) -> Tensor:
    return torch.from_numpy(weights_of(schedule, predicted, name, gamma)[t]).float()


@pytest.mark.parametrize(("prediction", "t"), [("eps", 0), ("x0", 50), ("v", 500), ("flow", 999), ("eps", 999)])
def test_a_network_that_hits_its_target_gives_the_image_back(prediction: Prediction, t: int) -> None:
    """Trainer and sampler mean the same by a prediction: the plan's first line undoes the target."""
    generator = torch.Generator().manual_seed(t)
    x0, noise = torch.rand((2, 2, 3, 4, 4), generator=generator, dtype=torch.float64)
    timesteps = torch.tensor([t, t])
    x_t = q_sample(SCHEDULE, x0, timesteps, noise)
    out = target(SCHEDULE, prediction, x0, timesteps, noise)
    row = make_plan(SCHEDULE, sampler="ddim", steps=1000, prediction=prediction).table[999 - t]
    assert torch.allclose(row[Column.X0_X] * x_t + row[Column.X0_OUT] * out, x0, atol=1e-9)


def test_min_snr_weights_of_eps_are_the_published_ones() -> None:
    t = torch.tensor([0, 50, 100, 200])
    assert weights(SCHEDULE, "eps", "min_snr", t).tolist() == pytest.approx([0.0005, 0.1549, 0.5857, 1.0], abs=5e-5)


@pytest.mark.parametrize("weighting", ["min_snr", "p2", "sigmoid", "flow"])
def test_weights_count_the_same_error_alike_whatever_is_predicted(weighting: str) -> None:
    """An error d of x0 is an error d sqrt(SNR) of eps, d / sqrt(1 - abar) of v and d / s of flow."""
    t = torch.arange(0, 1000, 37)
    abar = torch.from_numpy(SCHEDULE.alphas_cumprod)[t]
    of_x0 = weights(SCHEDULE, "x0", weighting, t, 0.5).double()
    assert torch.allclose(of_x0, weights(SCHEDULE, "eps", weighting, t, 0.5) * (abar / (1 - abar)), rtol=1e-5)
    assert torch.allclose(of_x0, weights(SCHEDULE, "v", weighting, t, 0.5) / (1 - abar), rtol=1e-5)
    s = (1 - abar).sqrt() / ((1 - abar).sqrt() + abar.sqrt())
    assert torch.allclose(of_x0, weights(SCHEDULE, "flow", weighting, t, 0.5) / s**2, rtol=1e-5)


def test_p2_weights_of_eps_are_their_formula() -> None:
    t = torch.tensor([0, 259, 999])
    snr = torch.from_numpy(SCHEDULE.alphas_cumprod / (1 - SCHEDULE.alphas_cumprod))[t]
    assert weights(SCHEDULE, "eps", "p2", t).tolist() == pytest.approx((1 / (1 + snr)).tolist(), rel=1e-6)
    assert weights(SCHEDULE, "eps", "p2", t, 0.5).tolist() == pytest.approx((1 / (1 + snr).sqrt()).tolist(), rel=1e-6)


def test_sigmoid_weights_are_sigmoid_where_the_logarithm_of_the_snr_is_uniform() -> None:
    """Of a schedule whose ln SNR falls evenly, by 2 ln(80 / .002) in all: sigmoid(b - ln SNR) times that."""
    schedule = NoiseSchedule.geometric(1000)
    t, span = torch.tensor([0, 400, 999]), 2 * math.log(80 / 0.002) * 1000 / 999
    log_snr = -2 * torch.from_numpy(schedule.sigmas).log()[t]
    for bias in (0.0, -2.0):
        expected = span * torch.sigmoid(bias - log_snr)
        assert weights(schedule, "eps", "sigmoid", t, bias).tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_flow_weights_of_an_image_are_those_of_the_velocity() -> None:
    """1 / s^2, with s of at least 0.05 (Li & He 2025), also at the time 1; of the velocity itself 1."""
    schedule, t = Flow.of(1000), torch.tensor([9, 49, 499, 998, 999])
    assert weights(schedule, "x0", "flow", t).tolist() == pytest.approx([400, 400, 4, 1 / 0.999**2, 1], rel=1e-4)
    assert weights(schedule, "flow", "flow", t).tolist() == pytest.approx([0.04, 1, 1, 1, 1], rel=1e-4)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v", "flow"])
def test_weights_are_finite_where_nothing_of_the_image_is_left(prediction: Prediction) -> None:
    schedule = SCHEDULE.rescale_zero_terminal_snr()
    for weighting in ("min_snr", "p2", "sigmoid", "flow"):
        assert torch.isfinite(weights(schedule, prediction, weighting, torch.tensor([0, 998, 999]))).all()


def test_the_learning_rate_warms_up_and_stays() -> None:
    recipe = dataclasses.replace(load_recipe("smoke"), learning_rate=4e-4, warmup_steps=500)
    rates = [learning_rate(recipe, step) for step in (0, 249, 499, 500, 10_000)]
    assert rates == pytest.approx([8e-7, 2e-4, 4e-4, 4e-4, 4e-4])
    assert learning_rate(dataclasses.replace(recipe, warmup_steps=0), 0) == 4e-4


def test_cross_entropy_is_that_of_softmax_regression_on_the_noisy_image() -> None:
    """For logits x_t · m and -x_t · m, -log p of the first class is log(1 + e^(-2 x_t · m))."""
    generator = torch.Generator().manual_seed(0)
    x0, noise, mean = torch.randn((3, 6, 3, 4, 4), generator=generator, dtype=torch.float64)
    t, labels = torch.tensor([0, 10, 200, 500, 900, 999]), torch.tensor([0, 1, 0, 1, 0, 1])
    abar = torch.from_numpy(SCHEDULE.alphas_cumprod)[t].view(-1, 1, 1, 1)
    x_t = abar.sqrt() * x0 + (1 - abar).sqrt() * noise
    side = 0.1 * (x_t * mean[0]).sum((1, 2, 3))
    seen: list[torch.Tensor] = []

    def network(x: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
        seen.append(at)
        dot = 0.1 * (x * mean[0]).sum((1, 2, 3))
        return torch.stack([dot, -dot], dim=1)

    losses = CrossEntropy(SCHEDULE)(network, x0, t, noise, labels)
    margin = torch.where(labels == 0, side, -side)
    assert torch.allclose(losses.loss, torch.log1p(torch.exp(-2 * margin)), rtol=1e-6)
    assert torch.equal(losses.correct, (margin > 0).double())
    assert torch.equal(losses.error, losses.loss)
    assert not losses.vlb.any()
    assert torch.equal(seen[0], t)


def test_a_window_shows_the_accuracy_of_a_classifier_by_quarter() -> None:
    window = Window(1000)
    t = torch.tensor([0, 100, 300, 999])
    facts = torch.tensor(1.0), torch.ones(4), t, torch.tensor(1.0), torch.zeros(4)
    window.add(StepFacts(*facts, torch.tensor([1.0, 0.0, 1.0, 0.0])))
    window.add(StepFacts(*facts, torch.tensor([1.0, 1.0, 1.0, 0.0])))
    metrics = window.close()
    expected = {"accuracy": 0.625, "accuracy/q1": 0.75, "accuracy/q2": 1.0, "accuracy/q4": 0.0, "accuracy/t<50": 1.0}
    assert {key: metrics[key] for key in metrics if key.startswith("accuracy")} == expected


def test_a_window_separates_the_quarters_of_the_timesteps() -> None:
    window = Window(1000)
    t = torch.tensor([0, 49, 50, 249, 250, 500, 999])
    window.add(StepFacts(torch.tensor(2.0), t.float(), t, torch.tensor(1.0), torch.zeros(7), NOT_CLASSIFIED[:7]))
    window.add(StepFacts(torch.tensor(4.0), t.float(), t, torch.tensor(3.0), torch.zeros(7), NOT_CLASSIFIED[:7]))
    metrics = window.close()
    expected = {"loss": 3.0, "grad_norm": 2.0, "loss/q1": 87.0, "loss/q2": 250.0, "loss/q3": 500.0, "loss/q4": 999.0}
    assert {key: metrics[key] for key in expected} == expected
    assert metrics["loss/t<50"] == 24.5
    assert "vlb" not in metrics


def test_a_skipped_step_does_not_spoil_a_window() -> None:
    window = Window(1000)
    t = torch.tensor([0, 999])
    lost, taken = torch.tensor(float("nan")), torch.tensor(2.0)
    window.add(StepFacts(lost, torch.full((2,), float("nan")), t, lost, torch.zeros(2), NOT_CLASSIFIED[:2]))
    assert math.isnan(window.close()["loss"])
    window.add(StepFacts(lost, torch.full((2,), float("nan")), t, lost, torch.zeros(2), NOT_CLASSIFIED[:2]))
    window.add(StepFacts(taken, torch.ones(2), t, taken, torch.full((2,), 3.0), NOT_CLASSIFIED[:2]))
    metrics = window.close()
    assert (metrics["loss"], metrics["grad_norm"], metrics["loss/q1"], metrics["vlb"]) == (2.0, 2.0, 1.0, 3.0)


def test_the_learning_rate_falls_to_nothing_at_the_end() -> None:
    recipe = dataclasses.replace(
        load_recipe("smoke"), learning_rate=4e-4, warmup_steps=0, max_steps=100, decay_steps=40
    )
    rates = [learning_rate(recipe, step) for step in (0, 60, 80, 99)]
    assert rates == pytest.approx([4e-4, 4e-4, 2e-4, 1e-5])


STEPS = 8
BOUND_SCHEDULE = NoiseSchedule.cosine(STEPS)
SHAPE = (3, 4, 4)
SEEDS = range(2)


def images() -> Tensor:
    levels = torch.randint(0, 256, (2, *SHAPE), generator=torch.Generator().manual_seed(0))
    return levels.double() / 127.5 - 1


def network(x_t: Tensor, t: Tensor, channels: int) -> Tensor:
    """Any formula, with a second half for the variance."""
    scale = 1 + 0.1 * t.view(-1, 1, 1, 1).to(x_t)
    return torch.cat([x_t.tanh() / scale, (x_t * scale).sin()], dim=1)[:, :channels]


def six_channels(x_t: Tensor, t: Tensor) -> Tensor:
    return network(x_t, t, 6)


@pytest.mark.parametrize(
    ("prediction", "variance"),
    [("eps", "fixed_small"), ("x0", "fixed_large"), ("v", "learned_range"), ("eps", "learned")],
)
def test_the_terms_add_up_to_the_measured_bound(prediction: Prediction, variance: Variance) -> None:
    """All T of them, with the same noise; the prior apart, which no training can change."""
    channels = 6 if variance.startswith("learned") else 3
    levels = visit_levels(BOUND_SCHEDULE, "linspace", STEPS)
    x0 = images()
    measured = vlb(
        x0,
        lambda x_t, t: network(x_t, t, channels),
        levels,
        seeds=SEEDS,
        prediction=prediction,
        variance=variance,
        clipping=Clipping(mode="none"),
    )
    objective = Objective(BOUND_SCHEDULE, prediction=prediction, variance=variance, loss="vlb")
    generators = [image_generator(seed) for seed in SEEDS]
    expected = [measured.decoder, *measured.terms.unbind(1)]
    for timestep in reversed(range(STEPS)):
        t = torch.full((2,), timestep)
        noise = draw_noise(generators, SHAPE).double()
        losses = objective(lambda x_t, t: network(x_t, t, channels), x0, t, noise)
        assert torch.allclose(losses.loss / STEPS, expected[timestep], rtol=1e-6), timestep
        assert torch.equal(losses.loss, losses.vlb)


def test_images_of_any_timesteps_keep_their_own_terms() -> None:
    objective = Objective(BOUND_SCHEDULE, prediction="eps", variance="learned_range", loss="vlb")
    x0, t = images(), torch.tensor([0, 5])
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    together = objective(six_channels, x0, t, noise).loss
    for i in range(2):
        alone = objective(six_channels, x0[i : i + 1], t[i : i + 1], noise[i : i + 1]).loss
        assert torch.equal(alone, together[i : i + 1])


def test_in_the_hybrid_loss_the_bound_trains_the_variance_only() -> None:
    x0, t = images(), torch.tensor([0, 5])
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    out = network(q_sample(BOUND_SCHEDULE, x0, t, noise), t, 6).requires_grad_()
    gradients = {}
    for loss in ("simple", "hybrid", "vlb"):
        objective = Objective(BOUND_SCHEDULE, prediction="eps", variance="learned_range", loss=loss)
        (gradients[loss],) = torch.autograd.grad(objective(lambda x_t, t: out, x0, t, noise).loss.sum(), out)
    assert torch.equal(gradients["hybrid"][:, :3], gradients["simple"][:, :3])
    assert torch.allclose(gradients["hybrid"][:, 3:], HYBRID_SHARE * gradients["vlb"][:, 3:], rtol=1e-12)
    assert gradients["hybrid"][:, 3:].abs().min() > 0
