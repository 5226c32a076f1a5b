"""Layers: vectors have the same bits in a batch of any size, and attention and doubling the values of PyTorch's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from difuso.model.networks.build import build_network
from difuso.model.networks.classifier import Classifier
from difuso.model.networks.configs import ClassifierConfig, DiTConfig, PaperUNetConfig, UNetConfig
from difuso.model.networks.layers import FEW, ROWS, RowLinear, attend, double
from difuso.model.networks.network_config import NetworkConfig
from difuso.model.networks.sigma_configs import EDM2UNetConfig, SongUNetConfig

pytestmark = pytest.mark.processors

SMALL: dict[str, Any] = {"channels": 32, "channel_mult": (1, 2), "head_channels": 16, "groups": 8}
NETWORKS: dict[str, NetworkConfig] = {
    "unet": UNetConfig(**SMALL, attention_levels=(1,), num_classes=3),
    "scale_shift": UNetConfig(**SMALL, time_injection="scale_shift", patch=2, pixel_head=8),
    "paper_unet": PaperUNetConfig(num_classes=3),
    "ncsnpp": SongUNetConfig(channels=32, channel_mult=(1, 2), num_res_blocks=1, fourier=True, encoder="residual"),
    "edm2": EDM2UNetConfig(channels=32, channel_mult=(1, 2), num_res_blocks=1, head_channels=32, num_classes=None),
    "dit": DiTConfig(channels=32, depth=2, heads=2, patch=8, bottleneck=16, num_classes=3),
}


def vectors(network: nn.Module, x: Tensor, t: Tensor) -> dict[str, Tensor]:
    """What each layer put out that has one vector for each image, by its name."""
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> object:
        def hook(module: nn.Module, inputs: object, out: object) -> None:
            if isinstance(out, Tensor) and out.ndim == 2:
                seen[name] = out

        return hook

    hooks = [module.register_forward_hook(keep(name)) for name, module in network.named_modules()]
    with torch.inference_mode():
        network(x, t)
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "paper_unet" else name for name in NETWORKS]
)
def test_the_size_of_a_batch_changes_no_time_embedding(name: str) -> None:
    """A layer that breaks it is named; so a network that has one of its own is, too."""
    network = build_network(NETWORKS[name]).eval()
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((20, 3, 16, 16), generator=generator)
    t = torch.randint(0, 1000, (20,), generator=generator)
    expected = vectors(network, x, t)
    assert len(expected) > 5
    for size in (1, 2, 3, 5, 8, 12, 16, 17):
        found = vectors(network, x[:size], t[:size])
        different = [layer for layer, rows in found.items() if not torch.equal(rows, expected[layer][:size])]
        assert different == [], f"in a batch of {size}"


def test_it_is_a_linear_layer() -> None:
    """The same weights under the same names, the same values, any number of rows; and plain while it trains."""
    torch.manual_seed(0)
    rows, plain = RowLinear(24, 40).eval(), nn.Linear(24, 40)
    plain.load_state_dict(rows.state_dict())
    for count in (1, ROWS, ROWS + 1, 3 * ROWS):
        x = torch.randn(count, 24)
        assert torch.allclose(rows(x), plain(x), atol=1e-6)
        assert torch.equal(rows.train()(x), plain(x))
        rows.eval()


def test_a_classifier_s_embedding_is_one_of_them() -> None:
    config = ClassifierConfig(image_size=16, num_classes=3, attention_levels=(1,), **SMALL)
    classifier = Classifier(config).eval()
    x, t = torch.randn((16, 3, 16, 16), generator=torch.Generator().manual_seed(0)), torch.arange(16)
    many, one = vectors(classifier, x, t), vectors(classifier, x[:1], t[:1])
    assert torch.equal(many["time_mlp.2"][:1], one["time_mlp.2"])


EPS = torch.finfo(torch.bfloat16).eps


def results(call: Callable[..., Tensor], inputs: list[Tensor]) -> list[Tensor]:
    """Returns what a function makes of three inputs, and the gradients of these."""
    leaves = [each.detach().clone().requires_grad_() for each in inputs]
    with torch.autocast("cpu"):
        out = call(*leaves)
    weights = torch.linspace(-1, 1, out.numel()).view(out.shape)
    gradients = torch.autograd.grad((out.double() * weights).sum(), leaves)
    return [each.double() for each in (out.detach(), *gradients)]


@pytest.mark.parametrize("positions", [1, 16, FEW])
def test_training_in_bfloat16_rounds_and_does_no_more(positions: int) -> None:
    torch.manual_seed(positions)
    inputs = [torch.randn(3, 2, positions, 24).bfloat16() for _ in range(3)]
    exact = results(F.scaled_dot_product_attention, [each.double() for each in inputs])
    for found, expected in zip(results(attend, inputs), exact, strict=True):
        # Each number is a sum of products of numbers that were rounded twice before.
        assert float((found - expected).norm()) <= 4 * EPS * float(expected.norm()) + 1e-12


@pytest.mark.parametrize("requires_grad", [False, True])  # as a classifier that guides does
def test_a_worker_s_is_pytorch_s(requires_grad: bool) -> None:
    q, k, v = (torch.randn(3, 2, 16, 24).bfloat16().requires_grad_(requires_grad) for _ in range(3))
    assert torch.equal(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_doubling_is_the_same_in_training(memory_format: torch.memory_format) -> None:
    x = torch.randn(2, 8, 3, 5).to(memory_format=memory_format)
    weights = torch.randn(2, 8, 6, 10)

    def trained(call: object) -> tuple[Tensor, Tensor]:
        assert callable(call)
        leaf = x.double().clone().requires_grad_()
        out = call(leaf)
        torch.autograd.backward((weights * out).sum())
        assert leaf.grad is not None
        return out.detach(), leaf.grad

    out, gradient = trained(double)
    expected, expected_gradient = trained(lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"))
    assert torch.equal(out, expected)
    assert torch.equal(out, double(x.double()))
    torch.testing.assert_close(gradient, expected_gradient)
