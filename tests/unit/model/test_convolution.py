"""Convolutions: an image gets the same bits in a batch of any size, on any number of threads."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from difuso.model.networks import layers
from difuso.model.networks.build import build_network
from difuso.model.networks.configs import DiTConfig, UNetConfig
from difuso.model.networks.layers import Convolution, pack_convolutions
from difuso.model.networks.network_config import NetworkConfig
from difuso.model.networks.sigma_configs import EDM2UNetConfig, SongUNetConfig
from tests.rounding import assert_rounded_alike

pytestmark = pytest.mark.processors

SIZES = (1, 2, 3, 5, 8, 12, 16)
needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
    reason="PyTorch was built without oneDNN",
)


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def convolved(layer: nn.Module, x: Tensor) -> Tensor:
    with torch.inference_mode():
        out: Tensor = layer(x.contiguous(memory_format=torch.channels_last))
    return out


@needs_onednn
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("channels", "side", "kernel", "stride"),
    [(64, 16, 3, 1), (128, 8, 3, 2), (256, 4, 3, 1), (256, 4, 1, 1), (256, 8, 1, 1), (16, 64, 3, 1)],
)
def test_neither_batch_nor_threads_change_a_convolution(
    channels: int, side: int, kernel: int, stride: int, packed: bool
) -> None:
    """The sizes of faces64's layers. PyTorch's own choice of a kernel fails at one image, or at any on one thread."""
    torch.manual_seed(0)
    layer = Convolution(channels, 64, kernel, stride, padding=kernel // 2).eval()
    if packed:
        layer.pack()
    x = torch.randn(16, channels, side, side)
    expected = convolved(layer, x)
    for count in (1, 2):
        torch.set_num_threads(count)
        different = [size for size in SIZES if not torch.equal(convolved(layer, x[:size]), expected[:size])]
        assert different == [], f"on {count} threads"


@needs_onednn
@pytest.mark.skipif(not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="oneDNN has no bfloat16 on this processor")
def test_in_bfloat16_a_weight_is_arranged_anew_only_where_the_order_differs_and_never_changes_bits() -> None:
    torch.manual_seed(0)
    layer = Convolution(96, 96, 3, padding=1).to(torch.bfloat16).eval().requires_grad_(False)
    inputs = [torch.randn(size, 96, side, side).bfloat16() for size in (1, 2, 16) for side in (8, 16)]
    expected = [convolved(layer, x) for x in inputs]
    layer.pack()
    for x, out in zip(inputs * 2, expected * 2, strict=True):
        assert torch.equal(convolved(layer, x), out)
    assert layer._packed is not None
    sizes = [each for each in layer._packed if isinstance(each, tuple)]
    orders = [each for each in layer._packed if isinstance(each, bytes)]
    assert len(sizes) == len(inputs)
    assert {id(layer._packed[size]) for size in sizes} == {id(layer._packed[order]) for order in orders}


NETWORKS: dict[str, tuple[NetworkConfig, int]] = {  # and the height of an image
    "unet": (
        UNetConfig(
            channels=64, channel_mult=(1, 2), head_channels=64, groups=16, attention_levels=(1,),
            time_injection="scale_shift", patch=4, pixel_head=16,
        ),
        64,
    ),
    "ddpmpp": (SongUNetConfig(channels=32, channel_mult=(1, 2), num_res_blocks=1), 16),
    "ncsnpp": (
        SongUNetConfig(
            channels=32, channel_mult=(1, 2), num_res_blocks=1, fourier=True, encoder="residual", decoder="skip",
            resample="binomial",
        ),
        16,
    ),
    "input_skip": (
        SongUNetConfig(channels=32, channel_mult=(1, 2), num_res_blocks=1, encoder="skip", resample="binomial"),
        16,
    ),
    "edm2": (EDM2UNetConfig(channels=64, channel_mult=(1, 2), num_res_blocks=1, attention_levels=(1,)), 16),
    "dit": (DiTConfig(channels=384, depth=2, context_tokens=4, context_start=1), 64),
}  # fmt: skip


@needs_onednn
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_each_layer_of_a_network_gives_the_same_bits_on_one_thread_and_two(name: str, packed: bool) -> None:
    """Layer by layer, so that a layer which breaks it is named."""
    torch.manual_seed(0)
    config, height = NETWORKS[name]
    network = build_network(config).eval()
    if packed:
        pack_convolutions(network)
    x, t = torch.randn(16, 3, height, height), torch.randint(0, 1000, (16,))
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> object:
        def hook(module: nn.Module, inputs: object, out: object) -> None:
            if isinstance(out, Tensor):
                seen[name] = out.clone()

        return hook

    for name, module in network.named_modules():
        module.register_forward_hook(keep(name))

    def outputs(size: int) -> dict[str, Tensor]:
        seen.clear()
        with torch.inference_mode():
            network(x[:size].contiguous(memory_format=torch.channels_last), t[:size])
        return dict(seen)

    expected = outputs(16)
    for count in (1, 2):
        torch.set_num_threads(count)
        for size in (1, 2, 4, 8):
            different = [name for name, out in outputs(size).items() if not torch.equal(out, expected[name][:size])]
            assert different == [], f"{size} images on {count} threads"


@needs_onednn
@pytest.mark.parametrize("channels", [(8, 12), (64, 64)])
def test_a_packed_convolution_is_the_same_to_rounding_and_still_has_gradients_and_trains(
    channels: tuple[int, int],
) -> None:
    """A packed weight may have another order, and so may its sums: of 12 channels on a processor with AVX2."""
    torch.manual_seed(0)
    layer, x = Convolution(*channels, 3, padding=1).eval(), torch.randn(2, channels[0], 9, 9)
    expected = layer(x)
    layer.pack()
    assert_rounded_alike(layer(x), expected, steps=9 * channels[0])
    layer(x.requires_grad_()).sum().backward()
    assert x.grad is not None
    with torch.no_grad():
        layer.weight.zero_()
    assert not torch.equal(layer.train()(x), expected)


@needs_onednn
@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_only_small_networks_are_packed(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    monkeypatch.setattr(layers, "PACKED_BYTES", limit)
    network = nn.Sequential(Convolution(3, 8, 3), nn.SiLU(), Convolution(8, 3, 3))
    pack_convolutions(network)
    assert [each._packed is not None for each in network if isinstance(each, Convolution)] == [limit > 0] * 2


def test_it_is_a_convolution() -> None:
    """The same weights under the same names, the same values and gradients; and plain while it trains."""
    torch.manual_seed(0)
    layer, plain = Convolution(8, 12, 3, 2, padding=1).eval(), nn.Conv2d(8, 12, 3, 2, padding=1)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(3, 8, 9, 9)
    assert_rounded_alike(layer(x), plain(x), steps=9 * 8)
    for each in (layer, plain):
        each(x).square().sum().backward()
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad)
    assert torch.equal(layer.train()(x), plain(x))


def test_autocast_casts_it_as_any_other() -> None:
    layer, x = Convolution(8, 8, 3, padding=1).eval(), torch.randn(2, 8, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
