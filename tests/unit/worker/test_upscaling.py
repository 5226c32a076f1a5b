"""Conditional models in the step engine, alone and as the second stage of a cascade."""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from difuso.jobs.cascade import Enlarging, enlarging_seed
from difuso.jobs.contract import Job
from difuso.jobs.errors import JobUnreadable
from difuso.jobs.kinds.base import Task
from difuso.jobs.kinds.generate import Generation
from difuso.jobs.kinds.upscale import Upscaling
from difuso.model.images import from_levels, from_png
from difuso.model.network_inputs import augment, enlarge
from difuso.model.networks.configs import UNetConfig
from difuso.model.noise import draw_noise, image_generator
from difuso.model.png import PNG_KEY
from difuso.model.sampling import sample
from difuso.worker.engine.active import ActiveJob, EngineEvent, Previewed, activate
from difuso.worker.engine.engine import StepEngine
from difuso.worker.engine.fairness import forecast
from difuso.worker.engine.results import encode_images
from difuso.worker.stepping.runner import Runner, Slowness
from tests.rounding import assert_rounded_alike, layers
from tests.small_models import CLASSES, CONDITIONAL, NETWORK, checkpoint_of, upscaler_of
from tests.stepping import drawn, run, snapshot_of, stepping, usual_job

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

CPU = torch.device("cpu")
STAGE = Enlarging(
    model="up",
    steps=4,
    sampler="ddpm",
    spacing="trailing",
    eta=0.0,
    variance="fixed_small",
    clip="static",
    augmentation=0.2,
    weight=4,
)


@pytest.fixture(scope="module")
def first() -> Runner:
    return Runner(checkpoint_of(UNetConfig(**NETWORK)), device=CPU, slots=8)


@pytest.fixture(scope="module")
def upscaler() -> Runner:
    return Runner(upscaler_of(), device=CPU, slots=8)


def image(seed: int = 0) -> Tensor:
    """An image of grey levels, as a PNG has them."""
    levels = torch.randint(0, 256, (1, 8, 8, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return from_levels(levels)[0]


def make_job(task: Task, **params: Any) -> Job:
    usual: dict[str, Any] = {"sampler": "ddpm"}
    return usual_job(task, **usual | params)


def upscaling(upscaler: Runner, sent: Tensor, *, augmentation: float = 0.2, **params: Any) -> ActiveJob:
    return activate(make_job(Upscaling(augmentation=augmentation), **params), upscaler, sent=[sent])


def cascade(first: Runner, upscaler: Runner, *, snapshot: bytes | None = None, **params: Any) -> ActiveJob:
    return activate(make_job(Generation(upscale=STAGE), **params), first, upscaler=upscaler, snapshot=snapshot)


def test_the_engine_agrees_with_the_plain_loop(upscaler: Runner) -> None:
    """x_T is the first draw of a seed, the noise of the condition the second."""
    active = upscaling(upscaler, image(), n=3, sampler="ddim", steps=5)
    run(active)
    checkpoint = upscaler.checkpoint
    generators = [image_generator(5 + i) for i in range(3)]
    x_start, noise = draw_noise(generators, (3, 16, 16)), draw_noise(generators, (3, 8, 8))
    level = torch.full((3,), 0.2)
    condition = enlarge(augment(image().expand(3, -1, -1, -1), level, noise), (16, 16))
    expected = sample(
        checkpoint.config.plan(checkpoint.schedule, sampler="ddim", steps=5, spacing="trailing"),
        lambda x_t, t: checkpoint.network(x_t, t, planes=condition, level=level),
        shape=(3, 16, 16),
        seeds=[5, 6, 7],
        noise=x_start,
    )
    assert_rounded_alike(drawn(active), expected, steps=5 * layers(checkpoint.network))


def test_image_and_augmentation_decide_the_answer(upscaler: Runner) -> None:
    made = [upscaling(upscaler, image(seed), augmentation=level) for seed, level in ((0, 0.2), (1, 0.2), (0, 0.0))]
    run(*made)
    first, *others = map(drawn, made)
    assert all(float((first - other).abs().mean()) > 0.01 for other in others)


def test_guidance_calls_the_network_without_label_with_the_same_condition() -> None:
    network = dataclasses.replace(CONDITIONAL, num_classes=len(CLASSES))
    runner = Runner(upscaler_of(network, classes=CLASSES), device=CPU, slots=4)
    both = upscaling(runner, image(), label=1, guidance_scale=2.0, steps=1, sampler="ddim", augmentation=0.0)
    x, planes = both.answers[0].x[None], both.answers[0].inputs["planes"]
    t = torch.tensor([float(both.answers[0].plan.timesteps[0])])
    run(both)
    inputs = {"planes": planes[None], "level": torch.zeros(1)}
    with torch.no_grad():
        label, none = (
            runner.checkpoint.network(x, t, labels=torch.tensor([each]), **inputs) for each in (1, len(CLASSES))
        )
    abar = float(runner.checkpoint.schedule.alphas_cumprod[int(t)])
    expected = abar**0.5 * x - (1 - abar) ** 0.5 * (none + 2 * (label - none))
    assert_rounded_alike(drawn(both), expected.clamp(-1, 1), steps=layers(runner.checkpoint.network))


def test_a_cascade_is_generate_and_then_upscale(first: Runner, upscaler: Runner) -> None:
    """Its second stage gets the small image as a PNG holds it, and the seed that the documents state."""
    whole = cascade(first, upscaler, n=3)
    small = activate(make_job(Generation(), n=3), first)
    run(whole, small)
    for index, png in enumerate(encode_images(small)):
        again = upscaling(upscaler, from_png(png), seed=enlarging_seed(5 + index))
        run(again)
        assert torch.equal(drawn(again)[0], drawn(whole)[index])


def test_a_cascade_shares_the_batches_of_both_models_and_is_the_same_bits_alone(
    first: Runner, upscaler: Runner
) -> None:
    company = [cascade(first, upscaler, n=2), activate(make_job(Generation(), n=3, seed=40, steps=9), first)]
    company.append(upscaling(upscaler, image(), n=2, steps=9))
    run(*company)
    alone, enlarged = cascade(first, upscaler, seed=6), upscaling(upscaler, image(), seed=6, steps=9)
    run(alone)
    run(enlarged)
    assert torch.equal(drawn(company[0])[1], drawn(alone)[0])
    assert torch.equal(drawn(company[2])[1], drawn(enlarged)[0])


@pytest.mark.parametrize("moment", [0, 3, 4, 6, 8])
def test_a_cascade_resumes_in_either_stage_with_the_same_bits(first: Runner, upscaler: Runner, moment: int) -> None:
    whole = cascade(first, upscaler, n=2)
    run(whole)
    events: list[EngineEvent] = []
    engine = StepEngine(events.append)
    engine.submit(interrupted := cascade(first, upscaler, n=2))
    for _ in range(moment):
        engine.step()
    snapshot = snapshot_of(interrupted)
    resumed = cascade(first, upscaler, n=2, snapshot=snapshot)
    assert resumed.image_steps == resumed.resumed_at == 2 * min(moment, 4) + 2 * 4 * max(moment - 4, 0)
    if moment < 8:
        run(resumed)
    assert torch.equal(drawn(resumed), drawn(whole))


def test_a_snapshot_of_other_weights_or_another_number_of_images_does_not_fit(first: Runner, upscaler: Runner) -> None:
    run(whole := cascade(first, upscaler, n=2))
    snapshot = snapshot_of(whole)
    other = Runner(upscaler_of(), device=CPU, slots=8)
    object.__setattr__(other.checkpoint, "version", "ef" * 32)
    assert cascade(first, other, n=2, snapshot=snapshot).resumed_at == 0
    assert cascade(first, upscaler, n=3, snapshot=snapshot).resumed_at == 0


def test_progress_and_forecast_count_both_stages(
    first: Runner, upscaler: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    active = cascade(first, upscaler, n=2)
    assert active.job.image_steps == 2 * 4 + 2 * 4 * 4
    inputs, forecasts, runners = [], [], []
    for _ in stepping(active):
        inputs.append(active.image_steps)
        runners.append(active.stepping)
        monkeypatch.setattr(first, "slowness", Slowness())  # as the machine is without its other work
        monkeypatch.setattr(upscaler, "slowness", Slowness())
        forecasts.append(forecast([active])[active])
    assert inputs == [2, 4, 6, 8, 16, 24, 32, 40]
    assert runners == [first] * 3 + [upscaler] * 5
    assert all(later < earlier for earlier, later in itertools.pairwise(forecasts))
    assert forecasts[0] >= 3 * first.step_seconds + 4 * upscaler.step_seconds
    assert forecasts[-1] == 0


def test_previews_show_the_stage_that_steps(first: Runner, upscaler: Runner) -> None:
    sizes = []
    active = cascade(first, upscaler, n=1)
    for events in stepping(active):
        sizes += [event.x0.shape[-1] for event in events if isinstance(event, Previewed)]
        active.preview = True
    assert sizes == [8, 8, 16, 16, 16, 16][: len(sizes)]
    assert {8, 16} == set(sizes)


def test_the_recipe_in_the_png_names_both_models(first: Runner, upscaler: Runner) -> None:
    run(active := cascade(first, upscaler))
    facts = json.loads(Image.open(io.BytesIO(encode_images(active)[0])).info[PNG_KEY])
    assert facts["version"] == "ab" * 32
    assert facts["upscaler_version"] == "cd" * 32
    assert facts["upscale"]["model"] == "up"
    assert len(facts["timesteps"]) == facts["steps"] == 4


TWICE = make_job(Generation(upscale=STAGE))
ONE = torch.zeros(3, 8, 8)


@pytest.mark.parametrize(
    ("refused", "model", "with_upscaler", "sent"),
    [
        (TWICE, "first", None, []),
        (make_job(Upscaling(augmentation=0.0)), "first", None, [ONE]),
        (make_job(Upscaling(augmentation=0.0)), "up", None, []),
    ],
    ids=["no upscaler", "not conditional", "no image"],
)
def test_a_job_that_does_not_fit_is_refused(
    first: Runner, upscaler: Runner, refused: Job, model: str, with_upscaler: str | None, sent: list[Tensor]
) -> None:
    """Somebody else may have written to Redis; the front end refuses all of these."""
    runners = {"first": first, "up": upscaler, None: None}
    runner = runners[model]
    assert runner is not None
    with pytest.raises(JobUnreadable):
        activate(refused, runner, upscaler=runners[with_upscaler], sent=sent)
