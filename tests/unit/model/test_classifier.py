"""The noisy classifier is guided-diffusion's, and its gradient is that of log p(y | x)."""

from __future__ import annotations

import pytest
import torch

from difuso.model.formats.facts import ClassifierFacts
from difuso.model.formats.guided import read_classifier
from difuso.model.networks.classifier import Classifier, log_prob_gradient
from difuso.model.networks.configs import ClassifierConfig
from tests.foreign import noise, reference
from tests.rounding import assert_rounded_alike, layers

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

T, LABELS = torch.tensor([3, 750]), torch.tensor([4, 0])


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    read = reference("guided_classifier")
    return read_classifier(read.weights, ClassifierFacts(**read.about["facts"]))


def test_logits_and_gradient_are_those_of_guided_diffusion(classifier: Classifier) -> None:
    x, outputs = noise("x", 2, 3, 16, 16), reference("guided_classifier").outputs
    assert_rounded_alike(classifier(x, T), outputs["logits"], steps=layers(classifier))
    gradient = log_prob_gradient(classifier, x, T, LABELS)
    assert_rounded_alike(gradient, outputs["gradient"], steps=2 * layers(classifier))


def test_the_gradient_can_be_had_in_inference_mode(classifier: Classifier) -> None:
    outside = log_prob_gradient(classifier, noise("x", 2, 3, 16, 16), T, LABELS)
    with torch.inference_mode():
        x, t, labels = noise("x", 2, 3, 16, 16), T.clone(), LABELS.clone()
        gradient = log_prob_gradient(classifier, x, t, labels)
        assert torch.is_inference_mode_enabled()
    assert torch.equal(gradient, outside)
    assert not gradient.requires_grad
    assert not x.requires_grad


def test_no_gradient_stays_in_the_parameters() -> None:
    """Not even in those of a classifier in training."""
    network = Classifier(
        ClassifierConfig(image_size=8, num_classes=3, channels=32, channel_mult=(1, 2), head_channels=32)
    )
    log_prob_gradient(network, noise("x", 2, 3, 8, 8), T, LABELS.clamp(max=2))
    assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())
