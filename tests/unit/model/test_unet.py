"""The two networks: sizes, shapes, class labels, and clear words for images that do not fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from difuso.model.networks.configs import PaperUNetConfig, UNetConfig
from difuso.model.networks.paper_unet import PaperUNet
from difuso.model.networks.unet import UNet
from tests.foreign import noise, reference
from tests.rounding import assert_rounded_alike, layers

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

TINY = UNetConfig(
    channels=8, channel_mult=(1, 2), num_res_blocks=1, attention_levels=(1,), head_channels=8, groups=4, num_classes=3
)
TIMES = torch.tensor([0, 999])


def images(*size: int, channels: int = 3) -> Tensor:
    return torch.randn((2, channels, *size), generator=torch.Generator().manual_seed(0))


def awake(network: nn.Module) -> nn.Module:
    """Random weights everywhere, so that nothing is hidden behind a layer that starts at zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return network.eval()


@pytest.fixture(scope="module")
def paper_unet() -> PaperUNet:
    torch.manual_seed(0)
    return PaperUNet(PaperUNetConfig(num_classes=10)).eval()


@pytest.fixture(scope="module")
def networks(paper_unet: PaperUNet) -> dict[str, nn.Module]:
    return {"unet": awake(UNet(TINY)), "paper_unet": paper_unet}


@torch.inference_mode()
def test_paper_unet_is_dome272_s_with_and_without_labels() -> None:
    read = reference("dome")
    network = PaperUNet(PaperUNetConfig(num_classes=5)).eval()
    network.load_state_dict(read.weights)
    assert sum(parameter.numel() for parameter in network.parameters()) == 23_332_739 + 5 * 256
    x, t = noise("x64", 1, 3, 64, 64), torch.tensor([300])
    for name, labels in {"labelled": torch.tensor([4]), "unlabelled": None}.items():
        out = network(x, t, labels=labels)[:, :, ::4, ::4]
        assert_rounded_alike(out, read.outputs[name], steps=layers(network))


@pytest.mark.parametrize("size", [(8, 8), (24, 16)])
@torch.inference_mode()
def test_paper_unet_takes_any_multiple_of_8(paper_unet: PaperUNet, size: tuple[int, int]) -> None:
    """The original's attention has its sizes written in and takes 64x64 only."""
    out = paper_unet(images(*size), TIMES)
    assert out.shape == (2, 3, *size)
    assert torch.isfinite(out).all()


@pytest.mark.parametrize("patch", [1, 2])
@torch.inference_mode()
def test_unet_is_zero_when_new(patch: int) -> None:
    """Its last convolution starts at zero, so training starts from "no noise" (Ho et al. 2020)."""
    network = UNet(dataclasses.replace(TINY, patch=patch))
    assert not network(images(8, 8), TIMES).any()


@pytest.mark.parametrize("name", ["unet", "paper_unet"])
@torch.inference_mode()
def test_every_input_matters(networks: dict[str, nn.Module], name: str) -> None:
    """The output changes with the image, the timestep and the label, each of the first row only."""
    network, x, none = networks[name], images(8, 8), torch.tensor([0, 0])
    base = network(x, TIMES, labels=none)
    changed = [
        network(torch.cat([-x[:1], x[1:]]), TIMES, labels=none),
        network(x, torch.tensor([500, 999]), labels=none),
        network(x, TIMES, labels=torch.tensor([1, 0])),
    ]
    for out in changed:
        assert not torch.allclose(out[0], base[0], atol=1e-4)
        assert torch.allclose(out[1], base[1], atol=1e-6)


@torch.inference_mode()
def test_a_batch_may_mix_labelled_and_unlabelled_images(networks: dict[str, nn.Module]) -> None:
    """Guidance asks for both in one call."""
    for network in networks.values():
        nobody = int(network.config.num_classes)  # type: ignore[union-attr, arg-type]
        mixed = network(images(8, 8), TIMES, labels=torch.tensor([2, nobody]))
        assert torch.allclose(mixed[0], network(images(8, 8), TIMES, labels=torch.tensor([2, 2]))[0], atol=1e-5)
        assert torch.allclose(mixed[1], network(images(8, 8), TIMES)[1], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"head_channels": 64}, "head_channels 64 does not divide the 16 channels of level 1"),
        ({"attention_levels": (0,), "head_channels": 16}, "head_channels 16 does not divide the 8 channels of level 0"),
        ({"groups": 3}, "groups 3 does not divide the 8 channels of level 0"),
        ({"heads": 3}, "heads 3 does not divide the 16 channels of level 1"),
        ({"channel_mult": (0.75, 2)}, "groups 4 does not divide the 6 channels of level 0"),
    ],
)
def test_an_impossible_unet_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)


@pytest.mark.parametrize("make", [lambda: UNet(TINY), lambda: PaperUNet(PaperUNetConfig(num_classes=3))])
def test_a_call_flips_no_mode(make: Callable[[], nn.Module]) -> None:
    """Concurrent jobs share the module: neither training nor eval mode may change under them."""
    network = make()
    for training in (True, False):
        network.train(training)
        with torch.inference_mode():
            network(images(8, 8), TIMES)
        assert all(module.training is training for module in network.modules())


@pytest.mark.parametrize("resample", ["conv", "resblock"])
def test_every_unet_parameter_learns(resample: Any) -> None:
    """A parameter without gradient would be a layer that is never used."""
    network = awake(UNet(dataclasses.replace(TINY, resample=resample)))
    network(images(8, 8), TIMES, labels=torch.tensor([0, 3])).square().sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


@torch.inference_mode()
def test_timesteps_may_be_floats_between_the_integers() -> None:
    """Whole ones give the same bits as integers; a network trained on t / 4 is asked for t and sees t / 4."""
    network, x = awake(UNet(TINY)), images(8, 8)
    scaled = UNet(dataclasses.replace(TINY, timestep_scale=0.25)).eval()
    scaled.load_state_dict(network.state_dict())
    assert torch.equal(network(x, TIMES.float()), network(x, TIMES))
    assert torch.equal(scaled(x, torch.tensor([1, 999])), network(x, torch.tensor([0.25, 249.75])))
    assert not torch.equal(network(x, torch.tensor([0.25, 999])), network(x, TIMES))


def test_without_a_null_class_every_call_needs_labels() -> None:
    network = awake(UNet(dataclasses.replace(TINY, null_class=False)))
    assert network.state_dict()["label_emb.weight"].shape[0] == TINY.num_classes
    assert network(images(8, 8), TIMES, labels=torch.tensor([0, 2])).shape == (2, 3, 8, 8)
    with pytest.raises(ValueError, match="every call needs labels"):
        network(images(8, 8), TIMES)


HEADED = dataclasses.replace(TINY, patch=2, pixel_head=4)


def test_a_pixel_head_begins_by_predicting_nothing_and_sees_every_noisy_pixel() -> None:
    x = images(16, 16)
    assert not UNet(HEADED)(x, TIMES).any()
    network = awake(UNet(HEADED))
    changed = x.clone()
    changed[0, 0, 5, 5] += 1.0
    difference = (network(changed, TIMES) - network(x, TIMES)).abs()
    assert difference[0, :, 5, 5].min() > 0
    assert not difference[1].any()
