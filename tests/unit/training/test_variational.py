"""What L_vlb and L_hybrid minimise is the bound that `difuso evaluate bpd` measures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from difuso.model import NoiseSchedule
from difuso.model.likelihood import vlb
from difuso.model.noise import draw_noise, image_generator, q_sample
from difuso.model.plans.clipping import Clipping
from difuso.model.plans.plan import Prediction, Variance
from difuso.model.plans.spacing import visit_levels
from difuso.training.objective.losses import HYBRID_SHARE, Objective

pytestmark = pytest.mark.processors

STEPS = 8
SCHEDULE = NoiseSchedule.cosine(STEPS)
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
    levels = visit_levels(SCHEDULE, "linspace", STEPS)
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
    objective = Objective(SCHEDULE, prediction=prediction, variance=variance, loss="vlb")
    generators = [image_generator(seed) for seed in SEEDS]
    expected = [measured.decoder, *measured.terms.unbind(1)]
    for timestep in reversed(range(STEPS)):
        t = torch.full((2,), timestep)
        noise = draw_noise(generators, SHAPE).double()
        losses = objective(lambda x_t, t: network(x_t, t, channels), x0, t, noise)
        assert torch.allclose(losses.loss / STEPS, expected[timestep], rtol=1e-6), timestep
        assert torch.equal(losses.loss, losses.vlb)


def test_images_of_any_timesteps_keep_their_own_terms() -> None:
    objective = Objective(SCHEDULE, prediction="eps", variance="learned_range", loss="vlb")
    x0, t = images(), torch.tensor([0, 5])
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    together = objective(six_channels, x0, t, noise).loss
    for i in range(2):
        alone = objective(six_channels, x0[i : i + 1], t[i : i + 1], noise[i : i + 1]).loss
        assert torch.equal(alone, together[i : i + 1])


def test_in_the_hybrid_loss_the_bound_trains_the_variance_only() -> None:
    x0, t = images(), torch.tensor([0, 5])
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    out = network(q_sample(SCHEDULE, x0, t, noise), t, 6).requires_grad_()
    gradients = {}
    for loss in ("simple", "hybrid", "vlb"):
        objective = Objective(SCHEDULE, prediction="eps", variance="learned_range", loss=loss)
        (gradients[loss],) = torch.autograd.grad(objective(lambda x_t, t: out, x0, t, noise).loss.sum(), out)
    assert torch.equal(gradients["hybrid"][:, :3], gradients["simple"][:, :3])
    assert torch.allclose(gradients["hybrid"][:, 3:], HYBRID_SHARE * gradients["vlb"][:, 3:], rtol=1e-12)
    assert gradients["hybrid"][:, 3:].abs().min() > 0
