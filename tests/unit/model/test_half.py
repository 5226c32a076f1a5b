"""Networks in bfloat16: what stays float32, what is cast, and that an image's bits do not depend on its batch."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from difuso.model.networks.build import build_network
from difuso.model.networks.classifier import log_prob_gradient
from difuso.model.networks.configs import (
    ClassifierConfig,
    DiTConfig,
    PaperUNetConfig,
    UNetConfig,
)
from difuso.model.networks.layers import LastConvolution, RowLinear, pack_convolutions, to_bfloat16
from difuso.model.networks.sigma_configs import EDM2UNetConfig, SongUNetConfig

pytestmark = pytest.mark.processors

SIDE = 16
EPS = 2.0**-8  # of bfloat16: relative distance of neighbouring numbers is at most 2 EPS
CONFIGS: dict[str, Any] = {
    "unet": UNetConfig(channels=32, channel_mult=(1, 2), head_channels=32, groups=8, attention_levels=(1,)),
    "adm": UNetConfig(
        channels=32, channel_mult=(1, 2), head_channels=32, groups=8, attention_levels=(1,), num_classes=3,
        time_injection="scale_shift", resample="resblock", out_channels=6,
    ),
    "faces": UNetConfig(
        channels=32, channel_mult=(1, 2), head_channels=32, groups=8, attention_levels=(1,), patch=2, pixel_head=8,
    ),
    "upscaler": UNetConfig(
        channels=32, channel_mult=(1, 2), head_channels=32, groups=8, attention_levels=(1,), condition_channels=3,
    ),
    "paper": PaperUNetConfig(num_classes=3),
    "ddpmpp": SongUNetConfig(channels=32, channel_mult=(1, 2), num_res_blocks=1),
    "ncsnpp": SongUNetConfig(
        channels=32, channel_mult=(1, 2), num_res_blocks=1, fourier=True, encoder="residual", decoder="skip",
        resample="binomial",
    ),
    "input_skip": SongUNetConfig(channels=32, channel_mult=(1, 2), num_res_blocks=1, encoder="skip"),
    "edm2": EDM2UNetConfig(channels=64, channel_mult=(1, 2), num_res_blocks=1, attention_levels=(1,)),
    "dit": DiTConfig(channels=64, depth=2, heads=2, bottleneck=32, num_classes=3, context_tokens=4, context_start=1),
}  # fmt: skip
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name == "paper" else name for name in CONFIGS]  # 23 M
CLASSIFIER = ClassifierConfig(
    image_size=SIDE, num_classes=3, channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_levels=(1,),
    head_channels=32, groups=8,
)  # fmt: skip


def pair(config: Any) -> tuple[nn.Module, nn.Module]:
    """Returns a network in float32 and its copy in bfloat16, both ready to serve; no layer of them is zero."""
    torch.manual_seed(0)
    network = build_network(config).eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for parameter in network.parameters():
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    half = deepcopy(network)
    to_bfloat16(half)
    for each in (network, half):
        pack_convolutions(each)
    return network, half


def batch(config: Any, size: int) -> tuple[tuple[Tensor, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(size, 3, SIDE, SIDE, generator=generator).contiguous(memory_format=torch.channels_last)
    t = torch.randint(0, 1000, (size,), generator=generator).float()
    inputs = {}
    if config.num_classes is not None:
        inputs["labels"] = torch.arange(size) % config.num_classes
    if getattr(config, "condition_channels", 0):
        inputs["planes"] = torch.randn(size, 3, SIDE, SIDE, generator=generator)
        inputs["level"] = torch.zeros(size)
    return (x, t), inputs


@pytest.mark.parametrize("name", NAMES)
def test_it_predicts_the_same_up_to_the_rounding_of_its_layers(name: str) -> None:
    """Each of some 30 rounded layers adds an error of about EPS at random; a lost or doubled term would add 100 %."""
    network, half = pair(CONFIGS[name])
    arguments, inputs = batch(CONFIGS[name], 2)
    with torch.inference_mode():
        expected, found = network(*arguments, **inputs), half(*arguments, **inputs)
    assert found.dtype == torch.float32
    assert (found - expected).norm() <= 10 * EPS * expected.norm()
    assert not torch.equal(found, expected)


def outputs_differ(call: Any, sizes: tuple[int, ...]) -> list[tuple[int, int]]:
    """Returns the numbers of threads and images for which the bits of a call are others."""
    before, expected = torch.get_num_threads(), call(16)
    try:
        different = []
        for threads in (1, 2):
            torch.set_num_threads(threads)
            different += [(threads, size) for size in sizes if not torch.equal(call(size), expected[:size])]
    finally:
        torch.set_num_threads(before)
    return different


@pytest.mark.slow
@pytest.mark.parametrize("name", ["unet", "adm", "faces", "upscaler", "ddpmpp", "ncsnpp", "edm2", "dit"])
def test_neither_batch_nor_threads_change_its_bits(name: str) -> None:
    _, half = pair(CONFIGS[name])
    (x, t), inputs = batch(CONFIGS[name], 16)

    def call(size: int) -> Tensor:
        with torch.inference_mode():
            out: Tensor = half(x[:size], t[:size], **{key: value[:size] for key, value in inputs.items()})
        return out

    assert outputs_differ(call, (1, 2, 3, 5, 8, 12)) == []


def test_a_classifier_guides_in_bfloat16() -> None:
    """The gradient comes back in float32, and points where that of the float32 network does."""
    classifier, half = pair(CLASSIFIER)
    (x, t), inputs = batch(CLASSIFIER, 2)
    expected, found = (log_prob_gradient(each, x, t, inputs["labels"]) for each in (classifier, half))
    assert found.dtype == torch.float32
    assert torch.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.99


@pytest.mark.parametrize("name", NAMES)
def test_training_has_the_same_float32_islands_under_autocast(name: str) -> None:
    """Time embeddings and the output are float32 although autocast would make them bfloat16; gradients reach all."""
    network, _ = pair(CONFIGS[name])
    network.train().requires_grad_(True)
    seen: set[torch.dtype] = set()
    for module in network.modules():
        if isinstance(module, RowLinear | LastConvolution):
            module.register_forward_hook(lambda module, inputs, out: seen.add(out.dtype))
    arguments, inputs = batch(CONFIGS[name], 2)
    with torch.autocast("cpu", torch.bfloat16):
        out = network(*arguments, **inputs)
    assert (seen, out.dtype) == ({torch.float32}, torch.float32)
    out.square().mean().backward()
    assert all(each.grad is not None for each in network.parameters() if each.requires_grad and each.numel() > 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_torch_compile_takes_a_training_network_as_one_graph(name: str) -> None:
    """A graph that breaks silently slows a training; `fullgraph` raises where one breaks."""
    torch.compiler.reset()
    torch.manual_seed(0)
    network = build_network(CONFIGS[name])
    arguments, inputs = batch(CONFIGS[name], 2)
    with torch.autocast("cpu", torch.bfloat16):
        torch.compile(network, backend="eager", fullgraph=True)(*arguments, **inputs)
