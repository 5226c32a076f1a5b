"""The noisy classifier is guided-diffusion's, and its gradient is that of log p(y | x)."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

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


def test_each_image_has_its_own_gradient(classifier: Classifier) -> None:
    x = noise("x", 2, 3, 16, 16)
    both = log_prob_gradient(classifier, x, T, LABELS)
    for i in range(2):
        alone = log_prob_gradient(classifier, x[i : i + 1], T[i : i + 1], LABELS[i : i + 1])
        assert_rounded_alike(both[i : i + 1], alone, steps=2 * layers(classifier))


def test_the_gradient_of_a_linear_classifier() -> None:
    """Of softmax regression it is w_y - sum_k p_k w_k."""

    class Linear(nn.Module):
        w = noise("w", 5, 3, 4, 4)

        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return torch.einsum("bchw,kchw->bk", x, self.w) * 0.1

    network, x = Linear(), noise("x", 2, 3, 4, 4)
    p = network(x, T).softmax(dim=1)
    expected = 0.1 * (network.w[LABELS] - torch.einsum("bk,kchw->bchw", p, network.w))
    assert torch.allclose(log_prob_gradient(network, x, T, LABELS), expected, atol=1e-6)
