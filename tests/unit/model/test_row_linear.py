"""What an image has one vector of, its time embedding above all, is the same in a batch of any size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from difuso.model.networks.build import build_network
from difuso.model.networks.classifier import Classifier
from difuso.model.networks.configs import ClassifierConfig, DiTConfig, PaperUNetConfig, UNetConfig
from difuso.model.networks.layers import ROWS, RowLinear
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


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name == "paper_unet" else name for name in NETWORKS]
)
def test_the_size_of_a_batch_changes_no_time_embedding(name: str, threads: int) -> None:
    """A layer that breaks it is named; so a network that has one of its own is, too."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
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
    finally:
        torch.set_num_threads(before)


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
