"""The networks of a model as the plain loop takes them: what draws a class, and what guides it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from difuso.model import PlanError
from difuso.model.checkpoint import Checkpoint
from difuso.model.networks.classifier import log_prob_gradient
from difuso.model.networks.configs import UNetConfig
from difuso.model.sampling import Denoiser, networks_of, sample
from tests.small_models import CLASSES, CLASSIFIER, NETWORK, WEAKER, checkpoint_of, conditional_checkpoint, upscaler_of

pytestmark = pytest.mark.usefixtures("one_thread")

X = torch.randn((2, 3, 8, 8), generator=torch.Generator().manual_seed(0))
T = torch.tensor([500, 20])
NO_CLASS = len(CLASSES)

PLAIN = checkpoint_of(UNetConfig(**NETWORK))
LABELLED = checkpoint_of(UNetConfig(num_classes=3, **NETWORK), classes=CLASSES, classifier=CLASSIFIER)
ALWAYS = checkpoint_of(UNetConfig(num_classes=3, null_class=False, **NETWORK), classes=CLASSES)
WITH_WEAKER = checkpoint_of(
    UNetConfig(num_classes=3, **NETWORK), weaker=UNetConfig(num_classes=3, **WEAKER), classes=CLASSES
)
CLASSIFIED = checkpoint_of(UNetConfig(**NETWORK), classifier=CLASSIFIER)


def expected(network: torch.nn.Module | None, label: int) -> Tensor:
    assert network is not None
    out: Tensor = network(X, T, labels=torch.full((2,), label))
    return out


def called(network: Denoiser | None) -> Tensor:
    assert network is not None
    return network(X, T)


def test_without_classes_there_is_the_network_alone() -> None:
    networks = networks_of(PLAIN)
    assert torch.equal(called(networks["denoiser"]), PLAIN.network(X, T))
    assert networks["base"] is networks["guide"] is None


def test_labels_guide_away_from_the_network_without_label() -> None:
    networks = networks_of(LABELLED, 1)
    assert torch.equal(called(networks["denoiser"]), expected(LABELLED.network, 1))
    assert torch.equal(called(networks["base"]), expected(LABELLED.network, NO_CLASS))
    unlabelled = networks_of(LABELLED)
    assert torch.equal(called(unlabelled["denoiser"]), expected(LABELLED.network, NO_CLASS))
    assert unlabelled["base"] is unlabelled["guide"] is None


def test_a_weaker_network_is_called_with_the_same_label() -> None:
    for label, index in ((2, 2), (None, NO_CLASS)):
        networks = networks_of(WITH_WEAKER, label)
        assert torch.equal(called(networks["denoiser"]), expected(WITH_WEAKER.network, index))
        assert torch.equal(called(networks["base"]), expected(WITH_WEAKER.weaker, index))


@pytest.mark.parametrize("checkpoint", [LABELLED, CLASSIFIED], ids=["network too", "alone"])
def test_a_classifier_guides_to_the_class(checkpoint: Checkpoint) -> None:
    assert checkpoint.classifier is not None
    expected = log_prob_gradient(checkpoint.classifier, X, T, torch.full((2,), 2))
    assert torch.equal(called(networks_of(checkpoint, 2)["guide"]), expected)
    assert networks_of(checkpoint)["guide"] is None


def test_only_what_guides_a_plan_is_called() -> None:
    def never(x_t: Tensor, t: Tensor) -> Tensor:
        raise AssertionError("called for nothing")

    plan = PLAIN.config.plan(PLAIN.schedule, steps=3)
    run: dict[str, Any] = {"shape": (3, 8, 8), "seeds": [1]}
    assert torch.equal(sample(plan, PLAIN.network, base=never, guide=never, **run), sample(plan, PLAIN.network, **run))


def test_a_network_that_was_never_without_a_class_is_not_guided_by_it() -> None:
    networks = networks_of(ALWAYS, 1)
    assert networks["base"] is None
    plan = ALWAYS.config.plan(ALWAYS.schedule, steps=3, guidance_scale=2.0)
    with pytest.raises(PlanError, match="needs a base"):
        sample(plan, **networks, shape=(3, 8, 8), seeds=[1])


def test_images_of_another_shape_are_refused() -> None:
    plan = PLAIN.config.plan(PLAIN.schedule, steps=3)
    with pytest.raises(PlanError, match=r"^shape must be \(3, 8, 8\), as the model draws, got \(3, 16, 16\)$"):
        sample(plan, **networks_of(PLAIN), shape=(3, 16, 16), seeds=[1])


@pytest.mark.parametrize(
    ("checkpoint", "label", "said"),
    [
        (ALWAYS, None, "label is needed by this model"),
        (LABELLED, 3, "label must be one of the model's 3 classes, by index, got 3"),
        (LABELLED, -1, "label must be one of the model's 3 classes, by index, got -1"),
        (PLAIN, 0, "label must be one of the model's 0 classes"),
        (upscaler_of(), None, "draws from an image"),
    ],
)
def test_what_the_model_does_not_have_is_refused(checkpoint: Checkpoint, label: int | None, said: str) -> None:
    with pytest.raises(PlanError, match=said):
        networks_of(checkpoint, label)


NEEDED: dict[str, Any] = {"style": [0.5, -1], "layout": torch.zeros(8, 8, dtype=torch.int64)}


def test_conditions_guide_away_from_the_network_with_what_it_needs() -> None:
    model = conditional_checkpoint()
    networks = networks_of(model, 1, {**NEEDED, "age": 25})
    alone = networks_of(model, None, NEEDED)
    assert alone["base"] is None
    assert torch.equal(called(networks["base"]), called(alone["denoiser"]))
    assert not torch.allclose(called(networks["denoiser"]), called(alone["denoiser"]), atol=1e-3)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hat": "red"}, "hat is not a condition of this model: it has age, glasses, style, layout, sketch"),
        ({"age": 101}, "the condition age must be a number from 0 to 100 years"),
        ({"style": None}, "style is needed by this model: give it a list of 2 numbers"),
    ],
)
def test_a_condition_that_the_model_does_not_take_is_refused(changes: dict[str, Any], said: str) -> None:
    expected = {name: value for name, value in {**NEEDED, **changes}.items() if value is not None}
    with pytest.raises(PlanError, match=said):
        networks_of(conditional_checkpoint(), None, expected)
