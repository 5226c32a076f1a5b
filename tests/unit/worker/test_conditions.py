"""Jobs of a model with conditions in the step engine: the same bits alone, in a batch, and as the plain loop draws."""

import dataclasses
import hashlib
import time
import uuid
from typing import Any

import pytest
import torch
from torch import Tensor

from difuso.jobs.cascade import Enlarging
from difuso.jobs.contract import Job
from difuso.jobs.errors import JobUnreadable
from difuso.jobs.image_recipe import job_of, recipe
from difuso.jobs.kinds.generate import Generation
from difuso.jobs.kinds.upscale import Upscaling
from difuso.jobs.params import SamplingParams
from difuso.model.images import from_levels
from difuso.model.network_inputs import enlarge
from difuso.model.sampling import networks_of, sample
from difuso.worker.engine.active import ActiveJob, activate
from difuso.worker.stepping.runner import Runner
from tests.rounding import assert_rounded_alike, layers
from tests.small_models import CONDITIONAL, CONDITIONS, conditional_checkpoint, upscaler_of
from tests.stepping import drawn, run, usual_job

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

LAYOUT = torch.tensor([[0, 1] * 4] * 8)
SKETCH = torch.linspace(-1, 1, 16).view(1, 4, 4)
IMAGES = {"layout": from_levels(LAYOUT.to(torch.uint8)[None, :, :, None])[0], "sketch": SKETCH}
HASHES = {name: hashlib.sha256(name.encode()).hexdigest() for name in IMAGES}
STYLE = {"style": ((0.5, -1.0),), "layout": (HASHES["layout"],)}  # what the model needs
ALL = {"age": (33.0,), "glasses": ("round",), "sketch": (HASHES["sketch"],), **STYLE}
TENSORS = {"layout": LAYOUT, "sketch": SKETCH}


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner(conditional_checkpoint(), device=torch.device("cpu"), slots=8)


def start(runner: Runner, images: dict[str, Tensor] | None = None, **params: Any) -> ActiveJob:
    usual: dict[str, Any] = {
        "n": 2,
        "steps": 3,
        "variance": "fixed_small",
        "clip": "static",
        "seed": 3,
        "conditions": STYLE,
    }
    job = usual_job(**usual | params)
    names = {value: name for name, value in HASHES.items()}
    sent = [(images or IMAGES)[names.get(each, "sketch")] for each in job.params.uploads(runner.checkpoint.config)]
    return activate(job, runner, sent=sent)


def plain(runner: Runner, active: ActiveJob, given: dict[str, Any], *, label: int | None = None) -> Tensor:
    networks = networks_of(
        runner.checkpoint, label, given | TENSORS if "sketch" in given else given | {"layout": LAYOUT}
    )
    seeds = [active.job.params.seed_of(index) for index in range(active.job.params.n)]
    return sample(active.answers[0].plan, **networks, shape=(3, 8, 8), seeds=seeds)


GIVEN: dict[str, Any] = {"age": 33, "glasses": "round", "style": [0.5, -1.0], "sketch": None}


@pytest.mark.parametrize("scale", [1.0, 2.5])
def test_the_engine_draws_what_the_plain_loop_draws(runner: Runner, scale: float) -> None:
    active = start(runner, conditions=ALL, label=1, guidance_scale=scale)
    run(active)
    expected = plain(runner, active, GIVEN, label=1)
    assert_rounded_alike(drawn(active), expected, steps=3 * layers(runner.checkpoint.network))


def test_an_image_is_the_same_bits_alone_and_among_others_with_other_conditions(runner: Runner) -> None:
    several: dict[str, Any] = {"conditions": {"age": (33.0, 70.0), **STYLE}, "guidance_scale": 2.0}
    company = [
        start(runner, **several),
        start(runner, n=1, conditions=ALL, label=2),
        start(runner, n=3, seed=9),
        start(runner, n=2, conditions={"glasses": ("none", "round"), **STYLE}, guidance_scale=3.0, label=0),
    ]
    run(*company)
    alone = start(runner, n=1, seed=4, conditions={"age": (70.0,), **STYLE}, guidance_scale=2.0)
    run(alone)
    assert torch.equal(drawn(company[0])[1], drawn(alone)[0])
    last = start(runner, n=1, conditions=ALL, label=2)
    run(last)
    assert torch.equal(drawn(company[1]), drawn(last))


def test_each_condition_changes_the_image(runner: Runner) -> None:
    base = start(runner, n=1)
    others = [start(runner, n=1, conditions={**STYLE, name: ALL[name]}) for name in ("age", "glasses", "sketch")]
    others.append(start(runner, n=1, conditions={**STYLE, "style": ((0.5, 1.0),)}))
    others.append(start(runner, {"layout": -IMAGES["layout"] - 2 + 2 / 255}, n=1))
    run(base, *others)
    assert all(float((drawn(base) - drawn(other)).abs().mean()) > 1e-3 for other in others)


@torch.inference_mode()
def test_guidance_leaves_out_what_it_acts_on_and_what_the_network_needs_stays(runner: Runner) -> None:
    """Of one step: base + w (out - base), where the base has the rest."""
    given = {"age": (33.0,), "glasses": ("round",), **STYLE}
    for guide, rest in ((None, {}), (("age",), {"glasses": "round"}), (("age", "label"), {"glasses": "round"})):
        active = start(runner, n=1, steps=1, conditions=given, label=1, guide=guide, guidance_scale=2.0, clip="none")
        start_x, t = active.answers[0].x, active.answers[0].plan.timesteps[0]
        run(active)
        style = {"style": [0.5, -1.0], "layout": LAYOUT}
        full = networks_of(runner.checkpoint, 1, {"age": 33, "glasses": "round", **style})["denoiser"]
        kept = 1 if guide == ("age",) else None
        base = networks_of(runner.checkpoint, kept, {**rest, **style})["denoiser"]
        times = torch.full((1,), float(t))
        out, less = full(start_x[None], times), base(start_x[None], times)
        abar = float(runner.checkpoint.schedule.alphas_cumprod[int(t)])
        expected = abar**0.5 * start_x - (1 - abar) ** 0.5 * (less + 2 * (out - less))[0]
        assert_rounded_alike(drawn(active)[0], expected, steps=layers(runner.checkpoint.network), largest=8.0)


def test_a_recipe_names_the_conditions_of_its_image_and_makes_its_job(runner: Runner) -> None:
    active = start(runner, conditions={"age": (33.0, 70.0), **STYLE}, guide=("age",), guidance_scale=2.0)
    facts = recipe(active.job, 1, model="m", version="0" * 64, timesteps=())
    assert facts["conditions"] == {"age": [70.0], "style": [(0.5, -1.0)], "layout": [HASHES["layout"]]}
    assert facts["guide"] == ["age"]
    again = job_of(facts).params
    assert again == active.job.params.model_copy(update={"n": 1, "seed": 4, "conditions": {"age": (70.0,), **STYLE}})


@pytest.mark.parametrize(
    "changes",
    [
        {"conditions": {}},
        {"conditions": {"age": (200.0,), **STYLE}},
        {"conditions": {"style": STYLE["style"], "layout": ("../../secret",)}},
        {"conditions": ALL, "guidance_scale": 2.0, "guide": ("style",)},
    ],
    ids=str,
)
def test_a_job_with_other_conditions_is_refused(runner: Runner, changes: dict[str, Any]) -> None:
    with pytest.raises(JobUnreadable):
        start(runner, **changes)


def test_the_image_of_a_condition_must_fit(runner: Runner) -> None:
    with pytest.raises(JobUnreadable, match="the image of layout must have the shape"):
        start(runner, {"layout": SKETCH})


@torch.inference_mode()
def test_an_upscaler_sees_its_conditions_after_the_image_that_it_enlarges() -> None:
    conditions = {"age": CONDITIONS["age"], "layout": dataclasses.replace(CONDITIONS["layout"], null=True)}
    network = dataclasses.replace(CONDITIONAL, condition_channels=3 + 2, vector_size=2)
    runner = Runner(upscaler_of(network, conditions=conditions), device=torch.device("cpu"), slots=4)
    settings = {"steps": 1, "sampler": "ddim", "variance": "fixed_small", "clip": "none", "seed": 3, "n": 1}
    layout = torch.tensor([[0, 1] * 8] * 16)
    image = torch.linspace(-1, 1, 192).view(3, 8, 8)
    given: dict[str, Any] = {"age": (25.0,), "layout": (HASHES["layout"],)}
    for values, vector, planes in (
        (given, [-0.5, 0.0], torch.stack([1.0 - layout, layout.float()])),
        ({}, [0.0, 1.0], torch.zeros(2, 16, 16)),
    ):
        params = SamplingParams.model_validate({**settings, "conditions": values})
        task = Upscaling(augmentation=0.0)
        job = Job(id=str(uuid.uuid4()), task=task, model="up", params=params, accepted_at=time.time(), timeout=600)
        sent = [image, from_levels(layout.to(torch.uint8)[None, :, :, None])[0]][: 1 + len(values) // 2]
        active = activate(job, runner, sent=sent)
        (answer,) = active.answers
        x, t = answer.x[None], torch.tensor([float(answer.plan.timesteps[0])])
        run(active)
        seen = torch.cat([enlarge(image[None], (16, 16)), planes[None]], dim=1)
        out = runner.checkpoint.network(x, t, vector=torch.tensor([vector]), planes=seen, level=torch.zeros(1))
        abar = float(runner.checkpoint.schedule.alphas_cumprod[int(t)])
        expected = abar**0.5 * x - (1 - abar) ** 0.5 * out
        assert_rounded_alike(drawn(active), expected, steps=layers(runner.checkpoint.network), largest=8.0)


def test_the_second_stage_of_a_cascade_has_no_conditions(runner: Runner) -> None:
    network = dataclasses.replace(CONDITIONAL, vector_size=2)
    stage = Enlarging(
        model="up", steps=2, sampler="ddim", spacing="trailing", variance="fixed_small", clip="static",
        augmentation=0.0, weight=4,
    )  # fmt: skip
    for null in (True, False):
        conditions = {"age": dataclasses.replace(CONDITIONS["age"], null=null)}
        second = Runner(upscaler_of(network, conditions=conditions), device=torch.device("cpu"), slots=4)
        params = start(runner, conditions=ALL).job.params
        job = Job(
            id=str(uuid.uuid4()), task=Generation(upscale=stage), model="m", params=params,
            accepted_at=time.time(), timeout=600,
        )  # fmt: skip
        if not null:
            with pytest.raises(JobUnreadable, match="up does not enlarge images"):
                activate(job, runner, upscaler=second, sent=[IMAGES["layout"], IMAGES["sketch"]])
            continue
        active = activate(job, runner, upscaler=second, sent=[IMAGES["layout"], IMAGES["sketch"]])
        assert [answer.inputs["vector"].tolist() for answer in active.answers] == [[0, 1]] * 2
        run(active)
        assert drawn(active).shape == (2, 3, 16, 16)
