"""One batch for guided and unguided images, learned and fixed variances, whole timesteps and others between them."""

from __future__ import annotations

import copy
import dataclasses
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
import torch

from difuso.jobs.contract import Job
from difuso.jobs.errors import JobUnreadable
from difuso.jobs.params import SamplingParams
from difuso.model import load_checkpoint, save_checkpoint
from difuso.model.folders.config import ScheduleConfig
from difuso.model.networks.configs import ClassifierConfig, UNetConfig
from difuso.model.sampling import networks_of, sample
from difuso.worker.engine.active import ActiveJob, activate
from difuso.worker.stepping.runner import Runner
from difuso.worker.stepping.trajectory import encode_snapshot, take_snapshot
from tests import stepping
from tests.rounding import assert_rounded_alike, layers
from tests.small_models import CLASSES, CLASSIFIER, NETWORK, WEAKER, checkpoint_of
from tests.stepping import drawn

pytestmark = pytest.mark.usefixtures("one_thread")

CPU = torch.device("cpu")
SEEDS = [3, 4]
INTERVAL = {"guidance_low": 0.5, "guidance_high": 5.0}  # of 12 calls, 5
BELOW = {"guidance_high": 1.0, "spacing": "leading"}
KINDS: dict[str, dict[str, Any]] = {
    "unguided": {"sampler": "ddim", "spacing": "leading"},
    "classifier-free": {"sampler": "ddim", "spacing": "trailing", "label": 1, "guidance_scale": 3.0},
    "classifier, ancestral": {"sampler": "ddpm", "spacing": "linspace", "label": 2, "classifier_scale": 5.0},
    "classifier, deterministic": {"sampler": "ddim", "spacing": "quad", "label": 0, "classifier_scale": 5.0},
    "within an interval": {"sampler": "ddim", "spacing": "trailing", "label": 1, "guidance_scale": 3.0, **INTERVAL},
    "both, up to a level": {"sampler": "ddpm", "label": 0, "guidance_scale": 2.0, "classifier_scale": 5.0, **BELOW},
    "both": {"sampler": "dpmpp", "spacing": "trailing", "label": 2, "guidance_scale": 2.0, "classifier_scale": 1.0},
    "between timesteps": {"sampler": "heun", "spacing": "karras"},
    "learned variance": {"sampler": "ddpm", "spacing": "linspace", "steps": 12, "variance": "learned_range"},
    "fixed variance": {"sampler": "ddpm", "spacing": "leading", "variance": "fixed_small", "clip": "dynamic"},
}


@pytest.fixture(scope="module")
def runner() -> Runner:
    """Of a model with everything: classes, a learned variance and a classifier."""
    network = UNetConfig(out_channels=6, num_classes=3, **NETWORK)
    checkpoint = checkpoint_of(network, variance="learned_range", classes=CLASSES, classifier=CLASSIFIER)
    return Runner(checkpoint, device=CPU, slots=6)


def start(runner: Runner, **params: Any) -> ActiveJob:
    filled = {"n": 2, "steps": 12, "eta": 0.0, "variance": "learned_range", "clip": "static", "seed": SEEDS[0]} | params
    made = SamplingParams.model_validate(filled)
    job = Job(id=str(uuid.uuid4()), model="m", params=made, accepted_at=time.time(), timeout=600)
    return activate(job, runner)


def run(runner: Runner, *actives: ActiveJob) -> int:
    """Steps jobs to their end; returns the network calls that it took."""
    with stepping.calls_of(runner) as calls:
        stepping.run(*actives)
    return len(calls)


WEAKER_KINDS: dict[str, dict[str, Any]] = {
    "unguided": {"sampler": "ddim", "spacing": "leading", "label": 2},
    "guided": {"sampler": "ddim", "spacing": "trailing", "label": 1, "guidance_scale": 3.0},
    "away from itself": {"sampler": "ddpm", "spacing": "leading", "label": 0, "guidance_scale": 0.0},
    "without a class": {"sampler": "dpmpp", "spacing": "trailing", "guidance_scale": 2.0},
    "within an interval": {"sampler": "unipc", "spacing": "trailing", "guidance_scale": 2.0, **INTERVAL},
    "above a level": {"sampler": "heun", "spacing": "karras", "steps": 11, "guidance_scale": 2.0, "guidance_low": 2.0},
    "learned variance": {"sampler": "ddpm", "spacing": "linspace", "label": 1, "guidance_scale": 1.5},
}


@pytest.fixture(scope="module")
def guided_runner() -> Runner:
    """Of a model with classes, a learned variance and a weaker network."""
    network = UNetConfig(out_channels=6, num_classes=3, **NETWORK)
    weaker = UNetConfig(num_classes=3, **WEAKER)
    checkpoint = checkpoint_of(network, variance="learned_range", classes=CLASSES, weaker=weaker)
    return Runner(checkpoint, device=CPU, slots=6)


@pytest.mark.processors
@pytest.mark.parametrize(("model", "kinds"), [("runner", KINDS), ("guided_runner", WEAKER_KINDS)])
def test_all_kinds_in_one_batch_are_what_they_are_alone_and_by_the_plain_loop(
    request: pytest.FixtureRequest, model: str, kinds: dict[str, dict[str, Any]]
) -> None:
    runner: Runner = request.getfixturevalue(model)
    together = {kind: start(runner, **params) for kind, params in kinds.items()}
    run(runner, *together.values())
    for kind, params in kinds.items():
        alone = start(runner, **params)
        run(runner, alone)
        assert torch.equal(drawn(together[kind]), drawn(alone)), kind
        made, checkpoint = alone.job.params, runner.checkpoint
        networks = networks_of(checkpoint, made.label_of(0))
        expected = sample(alone.trajectories[0].plan, **networks, shape=(3, 8, 8), seeds=SEEDS)
        assert_rounded_alike(drawn(alone), expected, steps=made.steps * layers(checkpoint.network))


def test_images_of_one_job_are_guided_to_classes_of_their_own(runner: Runner) -> None:
    for scales in (
        {"guidance_scale": 3.0},
        {"classifier_scale": 5.0},
        {"guidance_scale": 3.0, "classifier_scale": 5.0},
    ):
        common = {"sampler": "ddpm", "spacing": "trailing", "steps": 4, **scales}
        job = start(runner, n=4, seed=[3, 8, 3, 4], label=[2, 0, 1, 1], **common)
        run(runner, job)
        alone = [
            start(runner, n=1, seed=job.job.params.seed_of(i), label=job.job.params.label_of(i), **common)
            for i in range(4)
        ]
        for each in alone:
            run(runner, each)
        assert torch.equal(drawn(job), torch.cat([drawn(each) for each in alone]))
        assert (drawn(job)[0] - drawn(job)[2]).abs().max() > 1e-3  # one seed, two classes


def test_the_second_network_is_called_within_the_interval_only(guided_runner: Runner) -> None:
    """Its calls are what the price of the job says, and slots that are free elsewhere go to others."""
    params = {"sampler": "ddim", "spacing": "trailing", "n": 1, "guidance_scale": 2.0}
    limited, whole = start(guided_runner, **params, **INTERVAL), start(guided_runner, **params)
    scales = limited.trajectories[0].plan.scales
    assert (len(scales), guided := sum(scale != 1.0 for scale in scales)) == (12, 5)
    assert run(guided_runner, limited) == limited.image_steps == 12 + guided
    assert run(guided_runner, whole) == whole.image_steps == 24
    assert not torch.equal(drawn(limited), drawn(whole))


def test_an_interval_that_holds_all_calls_changes_no_bit(guided_runner: Runner) -> None:
    params = {"sampler": "ddim", "spacing": "trailing", "guidance_scale": 2.0}
    whole, wide = start(guided_runner, **params), start(guided_runner, **params, guidance_low=0.0, guidance_high=1e6)
    narrow, off = (
        start(guided_runner, **params, guidance_low=1e5),
        start(guided_runner, **params | {"guidance_scale": 1}),
    )
    for active in (whole, wide, narrow, off):
        run(guided_runner, active)
    assert torch.equal(drawn(whole), drawn(wide))
    assert torch.equal(drawn(narrow), drawn(off))


def test_a_job_resumes_in_the_middle_of_its_interval(guided_runner: Runner) -> None:
    params = {"sampler": "ddpm", "spacing": "trailing", "n": 3, "guidance_scale": 2.0, **INTERVAL}
    whole = start(guided_runner, **params)
    while whole.trajectories[0].spent < 9:
        guided_runner.step(whole.trajectories)
    resumed = activate(
        whole.job, guided_runner, snapshot=encode_snapshot(take_snapshot(whole.trajectories), whole.run_sha256)
    )
    assert resumed.resumed_at == whole.image_steps > 3 * whole.trajectories[0].row
    run(guided_runner, whole)
    run(guided_runner, resumed)
    assert torch.equal(drawn(resumed), drawn(whole))


def test_guidance_changes_the_picture(runner: Runner) -> None:
    """Each of the three ways, or the tests above would compare nothing."""
    found = {}
    ways: dict[str, dict[str, Any]] = {
        "none": {},
        "label": {"label": 1},
        "free": {"label": 1, "guidance_scale": 3.0},
        "classifier": {"label": 1, "classifier_scale": 3.0},
        "other label": {"label": 2, "classifier_scale": 3.0},
    }
    for name, params in ways.items():
        active = start(runner, sampler="ddim", spacing="leading", **params)
        run(runner, active)
        found[name] = drawn(active)
    names = list(found)
    for i, one in enumerate(names):
        for other in names[:i]:
            assert (found[one] - found[other]).abs().max() > 1e-3, (one, other)


def test_a_snapshot_knows_the_networks_that_guide_and_the_config(tmp_path: Path) -> None:
    """Else a job could begin on one version and end on another, as an image that neither of them makes."""
    model = checkpoint_of(UNetConfig(**NETWORK), weaker=UNetConfig(**WEAKER))
    versions = []
    for name, config, factor in (
        ("first", model.config, 1.0),
        ("guide", model.config, 1.5),
        ("config", dataclasses.replace(model.config, schedule=ScheduleConfig("cosine")), 1.0),
        ("same", model.config, 1.0),
    ):
        with torch.no_grad():
            weaker = copy.deepcopy(model.weaker)
            assert weaker is not None
            for parameter in weaker.parameters():
                parameter.mul_(factor)
        save_checkpoint(tmp_path / name, config, model.network, weaker=weaker)
        versions.append(Runner(load_checkpoint(tmp_path / name), device=CPU, slots=2))
    params = {"sampler": "ddim", "spacing": "leading", "variance": "fixed_small", "guidance_scale": 2.0}
    begun = start(versions[0], **params)
    versions[0].step(begun.trajectories)
    snapshot = encode_snapshot(take_snapshot(begun.trajectories), begun.run_sha256)
    resumed = [activate(begun.job, version, snapshot=snapshot).resumed_at for version in versions]
    assert resumed == [4, 0, 0, 4]


def test_guided_and_unguided_images_share_the_network_call(runner: Runner) -> None:
    """Six slots hold two images without guidance and two with a classifier, which take two places each."""
    calls = run(
        runner,
        start(runner, sampler="ddim", spacing="leading"),
        start(runner, sampler="ddim", spacing="leading", label=1, classifier_scale=1.0),
    )
    assert calls == 12 * 2  # one of the network for all four, one of the classifier for its two


def test_a_classifier_guides_a_network_without_classes() -> None:
    """As ADM-G does with the unconditional ImageNet model."""
    classifier = ClassifierConfig(image_size=8, num_classes=5, num_res_blocks=1, **NETWORK)
    runner = Runner(checkpoint_of(UNetConfig(**NETWORK), classifier=classifier), device=CPU, slots=4)
    found = []
    for params in ({}, {"label": 4, "classifier_scale": 5.0}):
        active = start(runner, sampler="ddim", spacing="leading", variance="fixed_small", **params)
        run(runner, active)
        found.append(drawn(active))
    assert (found[0] - found[1]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("network", "params"),
    [
        ({}, {"label": 0}),
        ({}, {"classifier_scale": 1.0}),
        ({}, {"guidance_scale": 2.0}),
        ({"num_classes": 3}, {"label": 3}),
        ({"num_classes": 3, "null_class": False}, {}),
        ({"num_classes": 3, "null_class": False}, {"label": 1, "guidance_scale": 2.0}),
    ],
)
def test_a_class_that_cannot_be_asked_for_is_refused(network: dict[str, Any], params: dict[str, Any]) -> None:
    """On a GPU an index outside the embedding would end the process."""
    count = network.get("num_classes")
    classes = None if count is None else tuple(map(str, range(count)))
    checkpoint = checkpoint_of(UNetConfig(**NETWORK, **network), classes=classes)
    runner = Runner.__new__(Runner)  # nothing is computed
    runner.checkpoint, runner.device = checkpoint, CPU
    with pytest.raises(JobUnreadable):
        start(runner, sampler="ddim", spacing="leading", variance="fixed_small", **params)


@pytest.mark.slow
def test_a_classifier_takes_no_size_of_batch_from_its_model() -> None:
    """A lone image pays for one, and not for two, although the backward pass of one has bits of its own."""
    folder = Path(__file__).parents[3] / "checkpoints/fashion32"
    checkpoint = load_checkpoint(folder)
    assert checkpoint.classifier is not None
    guided = Runner(checkpoint, device=CPU, slots=3)
    assert guided.buckets == Runner(dataclasses.replace(checkpoint, classifier=None), device=CPU, slots=3).buckets
