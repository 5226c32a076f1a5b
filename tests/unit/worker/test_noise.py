"""Images that begin in the noise of a request, and the start that a trace returns."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from difuso.jobs.contract import Job
from difuso.jobs.errors import JobUnreadable
from difuso.jobs.kinds.denoise import Denoising
from difuso.jobs.kinds.interpolate import Interpolation
from difuso.model.networks.configs import UNetConfig
from difuso.model.noise import draw_noise, image_generator
from difuso.model.sampling import networks_of, sample
from difuso.worker.engine.active import activate
from difuso.worker.engine.results import trace_arrays
from difuso.worker.stepping.runner import Runner
from tests.small_models import NETWORK, checkpoint_of
from tests.stepping import drawn, run, snapshot_of, stepping, usual_job

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPE = (3, 8, 8)
SEEDS = (5, 6)
IMAGE = torch.rand(SHAPE, generator=torch.Generator().manual_seed(8)) * 2 - 1
ARC = Interpolation(shares=(0.2, 0.7), depth=400, mode="ddim")


@pytest.fixture(scope="module")
def runner() -> Runner:
    return Runner(checkpoint_of(UNetConfig(**NETWORK)), device=torch.device("cpu"), slots=4)


def traced(**params: Any) -> Job:
    return usual_job(trace=(1, 2, 3, 4), n=2, **params)


def sent_back(trace: dict[str, Any]) -> list[Tensor]:
    return [torch.from_numpy(each) for each in trace["x_start"]]


@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpmpp", "dpm2_ancestral"])
def test_the_start_of_a_trace_draws_its_run_again_bit_for_bit(runner: Runner, sampler: str) -> None:
    """Of a sampler that draws noise, too: the noise replaces the first draw of each seed, and no other."""
    job = traced(sampler=sampler, eta=1.0 if sampler in ("ddim", "dpmpp") else 0.0)
    run(first := activate(job, runner))
    found = trace_arrays(first)
    noise = draw_noise([image_generator(seed) for seed in SEEDS], SHAPE)
    assert np.array_equal(found["x_start"], noise.permute(0, 2, 3, 1))
    run(again := activate(job, runner, sent=sent_back(found)))
    assert all(np.array_equal(array, found[name]) for name, array in trace_arrays(again).items())
    run(other := activate(job, runner, sent=sent_back(found)[:1]))  # one for all
    assert torch.equal(drawn(other)[0], drawn(first)[0])
    assert np.array_equal(trace_arrays(other)["x_start"], found["x_start"][[0, 0]])


def test_the_plain_loop_takes_and_returns_what_a_trace_has(runner: Runner) -> None:
    run(active := activate(job := traced(sampler="ddpm"), runner))
    found = trace_arrays(active)
    checkpoint = runner.checkpoint
    plan = checkpoint.config.plan_of(checkpoint.schedule, job.params)
    asked: dict[str, Any] = {"shape": SHAPE, "seeds": SEEDS, "return_noise": True, **networks_of(checkpoint)}
    images, noise = sample(plan, **asked)
    assert np.array_equal(noise.permute(0, 2, 3, 1), found["x_start"])
    again, same = sample(plan, **asked, noise=torch.from_numpy(found["x_start"]).permute(0, 3, 1, 2))
    assert torch.equal(again, images)
    assert torch.equal(same, noise)


@pytest.mark.parametrize(
    ("task", "sent"),
    [(None, []), (Denoising(sigma=25.0, depth=57), [IMAGE]), (ARC, [IMAGE, -IMAGE])],
    ids=["generate", "denoise", "arc"],
)
def test_a_job_that_is_resumed_anywhere_traces_the_same(runner: Runner, task: Any, sent: list[Tensor]) -> None:
    job = usual_job(task, trace=(2, 4), n=2)
    run(whole := activate(job, runner, sent=sent))
    active = activate(job, runner, sent=sent)
    snapshots = [snapshot_of(active), *(snapshot_of(active) for _ in stepping(active))]
    for snapshot in snapshots:
        run(resumed := activate(job, runner, sent=sent, snapshot=snapshot))
        found = trace_arrays(resumed)
        assert all(np.array_equal(array, found[name]) for name, array in trace_arrays(whole).items())


@pytest.mark.parametrize("noise", [[torch.zeros(8, 8, 3)] * 3, [torch.zeros(3, 8, 8)], [torch.zeros(8, 8)]])
def test_noise_of_other_shapes_or_numbers_is_no_job(runner: Runner, noise: list[Tensor]) -> None:
    with pytest.raises(JobUnreadable, match="the noise must be"):
        activate(traced(), runner, sent=noise)
