"""One batch for guided and unguided images, learned and fixed variances, whole timesteps and others between them."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from difuso.jobs.errors import JobUnreadable
from difuso.model import load_checkpoint, save_checkpoint
from difuso.model.checkpoint import Checkpoint
from difuso.model.folders.parsing import parse
from difuso.model.formats import edm
from difuso.model.formats.facts import EDMFacts
from difuso.model.networks.configs import ClassifierConfig, UNetConfig
from difuso.model.sampling import networks_of, sample
from difuso.worker.engine.active import ActiveJob, activate
from difuso.worker.stepping.runner import Runner
from tests import stepping
from tests.foreign import reference
from tests.rounding import assert_rounded_alike, layers
from tests.small_models import CLASSES, CLASSIFIER, NETWORK, WEAKER, checkpoint_of
from tests.stepping import drawn, usual_job

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
    usual: dict[str, Any] = {"n": 2, "steps": 12, "variance": "learned_range", "clip": "static", "seed": SEEDS[0]}
    return activate(usual_job(**usual | params), runner)


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


EDM_KINDS: dict[str, dict[str, Any]] = {
    "heun": {"sampler": "heun", "spacing": "karras", "steps": 5, "label": 1},
    "guided": {"sampler": "unipc", "spacing": "trailing", "steps": 4, "label": 2, "guidance_scale": 2.0},
    "without a class": {"sampler": "ddpm", "spacing": "leading", "steps": 6},
}


@pytest.fixture(scope="module")
def edm_runner() -> Runner:
    """Of a network of EDM, which was trained on noise levels, with and without classes."""
    read = reference("edm_ddpmpp_classes")
    config, network = edm.read_unet(read.weights, parse(EDMFacts, read.about["facts"]))
    checkpoint = Checkpoint("m", config, network, config.schedule.build(), "ab" * 32)
    return Runner(checkpoint, device=CPU, slots=4)


@pytest.mark.processors
@pytest.mark.parametrize(
    ("model", "kinds", "changes"),
    [
        ("runner", KINDS, {}),
        ("guided_runner", WEAKER_KINDS, {}),
        ("edm_runner", EDM_KINDS, {"variance": "fixed_small", "clip": "none"}),
    ],
)
def test_all_kinds_in_one_batch_are_what_they_are_alone_and_by_the_plain_loop(
    request: pytest.FixtureRequest, model: str, kinds: dict[str, dict[str, Any]], changes: dict[str, Any]
) -> None:
    runner: Runner = request.getfixturevalue(model)
    together = {kind: start(runner, **changes | params) for kind, params in kinds.items()}
    run(runner, *together.values())
    for kind, params in kinds.items():
        alone = start(runner, **changes | params)
        run(runner, alone)
        assert torch.equal(drawn(together[kind]), drawn(alone)), kind
        made, checkpoint = alone.job.params, runner.checkpoint
        networks = networks_of(checkpoint, made.label_of(0))
        expected = sample(alone.trajectories[0].plan, **networks, shape=checkpoint.config.shape, seeds=SEEDS)
        assert_rounded_alike(drawn(alone), expected, steps=made.steps * layers(checkpoint.denoiser))
    assert len({tuple(drawn(active).flatten().tolist()) for active in together.values()}) == len(kinds)


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


def test_a_version_counts_the_networks_that_guide(tmp_path: Path) -> None:
    """Else a job could begin on one version and end on another, as an image that neither of them makes."""
    model = checkpoint_of(UNetConfig(**NETWORK), weaker=UNetConfig(**WEAKER))
    assert model.weaker is not None
    versions = []
    for name in ("first", "other"):
        save_checkpoint(tmp_path / name, model.config, model.network, weaker=model.weaker)
        versions.append(load_checkpoint(tmp_path / name))
        model.weaker.requires_grad_(False).get_parameter("conv_out.bias").add_(0.5)
    assert versions[0].version != versions[1].version


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
