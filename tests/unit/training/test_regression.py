"""One call learns what a teacher draws in several: the loss, its timesteps, and a whole run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from difuso.model import NoiseSchedule, load_checkpoint, make_plan, networks_of, sample, save_checkpoint
from difuso.model.images import from_levels
from difuso.model.noise import draw_noise, image_generator, q_sample
from difuso.model.plans.prediction import Prediction
from difuso.training.data.dataset import PARTS, load
from difuso.training.objective.losses import target
from difuso.training.objective.objectives import of_a_run
from difuso.training.objective.regression import Regression, distance, random_filters
from difuso.training.recipe import Recipe
from difuso.training.recipe_reading import load_recipe
from difuso.training.run.run import train
from difuso.training.run.state import load_state
from tests.small_models import checkpoint_of
from tests.states import assert_equal
from tests.teachers import EXAMPLES, HAIR, UNET

pytestmark = pytest.mark.usefixtures("one_thread")

SCHEDULE = NoiseSchedule.cosine(1000)
T = torch.tensor([999, 499, 999, 499])


def pairs() -> tuple[Tensor, Tensor]:
    """Images and noise, which have nothing to do with each other."""
    images, noise = torch.randn((2, 4, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return images.clamp(-1, 1), noise


@pytest.mark.parametrize("prediction", ["v", "x0", "flow"])
def test_a_network_that_draws_the_image_of_each_pair_has_no_loss(prediction: Prediction) -> None:
    x0, noise = pairs()
    right = target(SCHEDULE, prediction, x0, T, noise)
    objective = Regression(SCHEDULE, prediction=prediction, channels=3)
    assert float(objective(lambda x_t, t: right, x0, T, noise).loss.max()) < 2e-3  # x_T is the noise, and 5e-5 less x_0
    wrong = objective(lambda x_t, t: right.roll(1, 0), x0, T, noise)
    assert float(wrong.loss.min()) > 0.5
    assert float(wrong.error.min()) > 0.5


def test_the_first_call_sees_noise_alone_and_the_next_the_straight_way_from_it() -> None:
    x0, noise = pairs()

    def network(x_t: Tensor, t: Tensor) -> Tensor:
        assert torch.equal(x_t[::2], noise[::2])
        assert torch.equal(x_t[1::2], q_sample(SCHEDULE, x0, T, noise)[1::2])
        return torch.full_like(x_t, torch.nan)

    assert Regression(SCHEDULE, prediction="v", channels=3)(network, x0, T, noise).loss.isnan().all()


@pytest.mark.parametrize(("size", "levels"), [((8, 8), 2), ((64, 96), 4), ((2, 2), 0)])
def test_the_distance_of_images_that_differ_in_brightness_is_the_same_on_each_level(
    size: tuple[int, int], levels: int
) -> None:
    """No slopes differ. Features do as the filters say: one that copies the red channel sees the difference too."""
    images = torch.rand((2, 3, *size), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    copy = torch.zeros(1, 3, 5, 5, dtype=torch.float64)
    copy[0, 0, 2, 2] = 1.0
    expected = torch.full((2,), 0.25 * (1 + 0.5 * (1 + 1) * levels), dtype=torch.float64)
    torch.testing.assert_close(distance(images + 0.25, images, copy), expected)


def test_filters_see_no_flat_areas_and_are_the_same_in_every_run() -> None:
    filters = random_filters(3)
    assert torch.equal(filters, random_filters(3))
    assert float(F.conv2d(torch.ones(1, 3, 9, 9), filters).abs().max()) < 1e-5


@pytest.mark.parametrize(
    ("steps", "count", "expected"),
    [(1, 128, {999: 128}), (2, 128, {999: 112, 499: 16}), (2, 4, {999: 3, 499: 1}), (2, 1, {499: 1})],
)
def test_most_images_are_shown_to_the_first_call(steps: int, count: int, expected: dict[int, int]) -> None:
    timesteps = make_plan(SCHEDULE, sampler="ddim", spacing="trailing", steps=steps).timesteps
    assert Counter(of_a_run(count, torch.Generator(), timesteps=timesteps).tolist()) == expected


class Affine(nn.Module):
    """x0 = scale x_t + shift."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        return self.scale * x_t + self.shift


def test_one_call_learns_where_many_of_ddim_end() -> None:
    """Images are N(0.2, 0.3²): the best denoiser is known, and where its run ends is nearly 0.2 + 0.3 noise."""

    def teacher(x_t: Tensor, t: Tensor) -> Tensor:
        abar = torch.from_numpy(SCHEDULE.alphas_cumprod)[t].float().view(-1, 1, 1, 1)
        return 0.2 + 0.09 * abar.sqrt() / (0.09 * abar + 1 - abar) * (x_t - 0.2 * abar.sqrt())

    several, one = (
        make_plan(SCHEDULE, sampler="ddim", spacing="trailing", prediction="x0", clip="none", steps=n) for n in (200, 1)
    )
    ends = sample(several, teacher, shape=(1, 4, 4), seeds=range(64))
    noise, student = draw_noise([*map(image_generator, range(64))], (1, 4, 4)), Affine()
    objective, optimizer = (
        Regression(SCHEDULE, prediction="x0", channels=1),
        torch.optim.Adam(student.parameters(), 0.02),
    )
    for step in range(150):
        optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 150)
        optimizer.zero_grad()
        objective(student, ends, torch.full((64,), 999), noise).loss.mean().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    assert torch.allclose(sample(one, student, shape=(1, 4, 4), seeds=range(64)), ends, atol=0.01)
    assert float(student.shift.detach()) == pytest.approx(0.2, abs=0.02)
    assert float(student.scale.detach()) == pytest.approx(0.3, abs=0.02)


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Recipe]:
    """A recipe with changes, for 20 pairs of a teacher with conditions."""
    teacher = checkpoint_of(UNET, conditions=HAIR, examples=EXAMPLES)
    save_checkpoint(tmp_path / "teacher", teacher.config, teacher.network, dtype=torch.float32)
    changes = (
        *("image_size=8", "batch_size=8", "prediction=v", "loss=regression", "warmup_steps=0", "learning_rate=0.002"),
        *("network.channels=8", "network.channel_mult=[1, 2]", "network.attention_levels=[1]", "network.groups=4"),
        *("network.num_res_blocks=2", "network.time_injection=add", "network.head_channels=8", "examples=4"),
        *("defaults.sampler=ddim", "defaults.steps=2", "defaults.spacing=trailing", "plans.live.sampler=ddim"),
        *("plans.live.steps=1", "plans.live.spacing=trailing", "log_every=2", "save_every=5", "data.count=20"),
        *("data.source=teacher", f"data.path={tmp_path / 'teacher'}", "data.settings.steps=3"),
        f"init={tmp_path / 'teacher'}",
    )
    return lambda *more: load_recipe("smoke", [*changes, *more])


@pytest.mark.slow
def test_a_run_begins_with_its_teacher_and_ends_with_a_model_of_one_call(
    tmp_path: Path, tiny: Callable[..., Recipe], caplog: pytest.LogCaptureFixture
) -> None:
    """It is the same when it was stopped on the way, and comes nearer to its teacher."""
    straight, halves = tmp_path / "straight", tmp_path / "halves"
    with caplog.at_level("INFO"):
        train(tiny("max_steps=30"), straight)
    assert "drew images 1 to 20 of 20" in caplog.text
    assert not (straight / "data" / PARTS).exists()
    assert "training smoke: 65,763 parameters, in float32 on 1 thread of " in caplog.text
    for steps in (13, 30):
        train(tiny(f"max_steps={steps}"), halves)
    states = [load_state(out) for out in (straight, halves)]
    assert states[0] is not None
    assert states[1] is not None
    assert_equal(states[0]["trainer"], states[1]["trainer"])
    model, aim = load_checkpoint(straight / "model"), load(tiny(), straight / "data").images[:1]
    assert model.config.examples == EXAMPLES, "those of its teacher"
    assert "in float32 on" in (straight / "model" / "README.md").read_text("utf-8")
    before, after = (
        (one_call(each) - from_levels(torch.from_numpy(aim.copy()))).abs().mean()
        for each in (tmp_path / "teacher", straight / "model")
    )
    assert after < before


def one_call(folder: Path) -> Tensor:
    """The image of the first pair's seed and conditions, by one call."""
    checkpoint = load_checkpoint(folder)
    plan = checkpoint.config.plan(checkpoint.schedule, sampler="ddim", spacing="trailing", steps=1)
    conditions = {name: column[0] for name, column in EXAMPLES.items()}
    return sample(plan, **networks_of(checkpoint, conditions=conditions), shape=(3, 8, 8), seeds=[2**31])
