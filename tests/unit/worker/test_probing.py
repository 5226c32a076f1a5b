"""The first act of a job whose picture comes without conditions: it finds some, and draws as if they were named."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from difuso.jobs.contract import Job
from difuso.jobs.kinds.base import FromPicture
from difuso.jobs.kinds.denoise import Denoising
from difuso.jobs.kinds.restore import Restoring
from difuso.jobs.nearest import least_depth, nearest, probes_of
from difuso.model.conditions import Choice, Condition, Number, vector_size
from difuso.model.networks.configs import UNetConfig
from difuso.model.noise import draw_noise, image_generator, q_sample
from difuso.model.sampling import networks_of, sample
from difuso.worker.engine.active import ActiveJob, activate
from difuso.worker.engine.results import encode_images
from difuso.worker.stepping.runner import Runner
from tests.small_models import NETWORK, checkpoint_of
from tests.stepping import drawn, run, snapshot_of, stepping, usual_job

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

CONDITIONS: dict[str, Condition] = {
    "age": Number(0, 100, null=True),
    "hair": Choice(("short", "long", "afro"), null=True),
}
EXAMPLES: dict[str, Any] = {"age": (20.0, 40.0, 80.0, 20.0), "hair": ("short", "long", "afro", "afro")}
DEPTH, N = 850, 2
PICTURE = torch.rand((3, 8, 8), generator=torch.Generator().manual_seed(8)) * 2 - 1
MASK = torch.full((1, 8, 8), -1.0)
MASK[:, 2:6, 3:] = 1.0
TASKS: dict[str, tuple[FromPicture, list[Tensor]]] = {
    "denoise": (Denoising(depth=DEPTH, probes=6), [PICTURE]),
    "inpaint": (Restoring(task="inpaint", probes=6), [PICTURE, MASK]),
    "colorize": (Restoring(task="colorize", probes=6), [PICTURE.mean(0, keepdim=True)]),
}
each_kind = pytest.mark.parametrize("kind", TASKS)


def runner_of(**fields: Any) -> Runner:
    network = UNetConfig(vector_size=vector_size(CONDITIONS), **NETWORK)
    return Runner(checkpoint_of(network, conditions=CONDITIONS, **fields), device=torch.device("cpu"), slots=8)


@pytest.fixture(scope="module")
def runner() -> Runner:
    return runner_of(examples=EXAMPLES)


def job_of(kind: str, *, probes: int = 6, **params: Any) -> Job:
    usual = {"n": N, "seed": 5, "steps": 3, "eta": 0.85}
    return usual_job(TASKS[kind][0].model_copy(update={"probes": probes}), **usual | params)


def begin(runner: Runner, kind: str, snapshot: bytes | None = None, **params: Any) -> ActiveJob:
    return activate(job_of(kind, **params), runner, sent=TASKS[kind][1], snapshot=snapshot)


@each_kind
def test_what_is_found_draws_what_it_draws_when_it_is_named(runner: Runner, kind: str) -> None:
    active = begin(runner, kind)
    assert active.image_steps + active.left == active.job.image_steps
    run(active)
    found = active.drawn_job.params.conditions
    assert set(zip(*(found[name] for name in EXAMPLES), strict=True)) < set(zip(*EXAMPLES.values(), strict=True))
    assert (active.image_steps, active.left) == (active.job.image_steps, 0)
    assert not active.job.params.conditions, "the accepted job stays as it was"
    named = begin(runner, kind, conditions=found, probes=0)
    run(named)
    assert encode_images(active) == encode_images(named)
    nothing = begin(runner, kind, probes=0)
    run(nothing)
    assert not torch.equal(drawn(nothing), drawn(named))


def test_the_example_is_that_of_the_plain_loop(runner: Runner) -> None:
    active = begin(runner, "denoise")
    checkpoint = runner.checkpoint
    noise = draw_noise([image_generator(5)], (3, 8, 8))
    x = q_sample(checkpoint.schedule, PICTURE[None], torch.tensor([DEPTH]), noise)
    settings = checkpoint.config.settle(start=DEPTH, steps=1, sampler="ddim", eta=0.0)
    plan = checkpoint.config.plan_of(checkpoint.schedule, settings, start=DEPTH)
    errors = []
    for name, value in probes_of(checkpoint.config):
        guess = sample(plan, **networks_of(checkpoint, None, {name: value}), shape=(3, 8, 8), seeds=[5], noise=x)
        errors.append(float((guess[0] - PICTURE).square().mean()))
    run(active)
    assert active.start.found == nearest(checkpoint.config, probes_of(checkpoint.config), errors)


@each_kind
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_it_goes_on_from_a_snapshot(runner: Runner, kind: str, steps: int) -> None:
    """Of which the first is taken among the probes, and the last among the answers."""
    whole, begun = begin(runner, kind), begin(runner, kind)
    run(whole)
    engine = stepping(begun)
    for _ in range(steps):
        next(engine)
    resumed = begin(runner, kind, snapshot_of(begun))
    assert resumed.image_steps == begun.image_steps
    assert bool(resumed.start.found) is (steps > 0)
    run(resumed)
    assert encode_images(resumed) == encode_images(whole)


def test_guidance_acts_on_what_is_found(runner: Runner) -> None:
    active = begin(runner, "denoise", guidance_scale=2.0)
    run(active)
    named = begin(runner, "denoise", guidance_scale=2.0, conditions=active.start.found, probes=0)
    run(named)
    assert torch.equal(drawn(active), drawn(named))


def test_a_version_without_examples_draws_without_conditions() -> None:
    active = begin(runner_of(), "denoise")
    run(active)
    assert active.drawn_job.params.conditions == {}


def test_the_level_of_a_restoration_is_where_little_is_left(runner: Runner) -> None:
    seen = begin(runner, "inpaint").start.seen
    assert seen is not None
    assert seen.timestep == least_depth(runner.checkpoint.schedule)
    there = MASK[0] < 0
    assert torch.equal(seen.y[:, there], PICTURE[:, there])
    assert not seen.y[:, ~there].any()
    assert torch.equal(seen.measure(PICTURE), seen.y)
