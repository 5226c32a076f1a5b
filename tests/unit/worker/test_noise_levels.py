"""A worker serves networks that were trained on noise levels: in its batches they draw what the plain loop draws."""

from __future__ import annotations

import time
import uuid
from typing import Any

import pytest
import torch

from difuso.jobs.contract import Job
from difuso.jobs.params import SamplingParams
from difuso.model.checkpoint import Checkpoint
from difuso.model.folders.parsing import parse
from difuso.model.formats import edm
from difuso.model.formats.facts import EDMFacts
from difuso.model.sampling import networks_of, sample
from difuso.worker.engine.active import ActiveJob, activate
from difuso.worker.stepping.runner import Runner
from tests.foreign import reference
from tests.rounding import assert_rounded_alike, layers
from tests.stepping import drawn, run

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

KINDS: dict[str, dict[str, Any]] = {
    "heun": {"sampler": "heun", "spacing": "karras", "steps": 5, "label": 1},
    "guided": {"sampler": "unipc", "spacing": "trailing", "steps": 4, "label": 2, "guidance_scale": 2.0},
    "without a class": {"sampler": "ddpm", "spacing": "leading", "steps": 6},
}


@pytest.fixture(scope="module")
def runner() -> Runner:
    """Of a network of EDM that was trained with and without classes."""
    read = reference("edm_ddpmpp_classes")
    config, network = edm.read_unet(read.weights, parse(EDMFacts, read.about["facts"]))
    checkpoint = Checkpoint("m", config, network, config.schedule.build(), "ab" * 32)
    return Runner(checkpoint, device=torch.device("cpu"), slots=4)


def start(runner: Runner, params: dict[str, Any]) -> ActiveJob:
    filled = {"n": 2, "eta": 0.0, "variance": "fixed_small", "clip": "none", "seed": 3} | params
    made = SamplingParams.model_validate(filled)
    return activate(Job(id=str(uuid.uuid4()), model="m", params=made, accepted_at=time.time(), timeout=600), runner)


def test_jobs_of_all_kinds_in_one_batch_are_what_they_are_alone_and_by_the_plain_loop(runner: Runner) -> None:
    actives = [start(runner, params) for params in KINDS.values()]
    run(*actives)
    for active, given in zip(actives, KINDS.values(), strict=True):
        params = active.job.params
        networks = networks_of(runner.checkpoint, params.label_of(0))
        expected = sample(active.trajectories[0].plan, **networks, shape=(3, 16, 16), seeds=[3, 4])
        assert_rounded_alike(drawn(active), expected, steps=params.steps * layers(runner.checkpoint.denoiser))
        run(alone := start(runner, given))
        assert torch.equal(drawn(alone), drawn(active))
