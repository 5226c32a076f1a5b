"""Networks of improved-diffusion and guided-diffusion compute here what they compute there, or are refused."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from difuso.model import CheckpointError
from difuso.model.formats.facts import RELEASED, ClassifierFacts, GuidedFacts
from difuso.model.formats.guided import decoder_names, encoder_names, read_classifier, read_unet
from difuso.model.formats.naming import Weights
from difuso.model.networks.classifier import Classifier
from difuso.model.networks.configs import ClassifierConfig, UNetConfig
from difuso.model.networks.unet import UNet
from tests.foreign import noise, reference
from tests.rounding import assert_rounded_alike, layers

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

X = noise("x", 2, 3, 16, 16)
T, LABELS = torch.tensor([3, 750]), torch.tensor([4, 0])
CALLS: dict[str, tuple[Tensor, Tensor | None]] = {
    "guided_new_order": (T, LABELS),
    "guided_legacy_order": (T, None),
    "improved": (torch.tensor([13, 3001]), None),  # of 4000
}
FACTS = GuidedFacts(**reference("improved").about["facts"])


def change(weights: Weights, **tensors: Tensor | None) -> dict[str, Tensor]:
    """With other tensors, or without those that are None; dots are written __."""
    changed = {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    return {name: tensor for name, tensor in {**weights, **changed}.items() if tensor is not None}


def refusal(weights: Weights, facts: GuidedFacts = FACTS) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_unet(weights, facts)
    return str(caught.value)


@pytest.mark.parametrize("name", CALLS)
def test_the_output_is_that_of_the_reference(name: str) -> None:
    read, (t, labels) = reference(name), CALLS[name]
    _, network = read_unet(read.weights, GuidedFacts(**read.about["facts"]))
    out = read.outputs["out"]
    assert_rounded_alike(network(X, t, labels=labels), out, steps=layers(network))


@pytest.mark.parametrize("name", ["guided_new_order", "guided_legacy_order"])
def test_the_wrong_attention_order_is_another_network(name: str) -> None:
    """Nothing in the weights shows it, which is why this fact is compulsory."""
    read, (t, labels) = reference(name), CALLS[name]
    facts = GuidedFacts(**read.about["facts"])
    wrong = dataclasses.replace(facts, use_new_attention_order=not facts.use_new_attention_order)
    _, network = read_unet(read.weights, wrong)
    assert (network(X, t, labels=labels) - read.outputs["out"]).abs().max() > 0.01


def test_the_config_of_a_class_conditional_network_with_learned_variance() -> None:
    read = reference("guided_new_order")
    config, network = read_unet(read.weights, GuidedFacts(**read.about["facts"]))
    assert (config.variance, config.prediction, config.image_size, config.channels) == ("learned_range", "eps", 16, 3)
    assert config.classes == ("0", "1", "2", "3", "4")
    assert config.schedule.build().num_train_timesteps == 1000
    assert not any(p.requires_grad for p in network.parameters())
    assert not network.training


@pytest.mark.parametrize(
    ("facts", "variance", "prediction"),
    [({}, "fixed_large", "eps"), ({"sigma_small": True, "predict_xstart": True}, "fixed_small", "x0")],
)
def test_the_config_of_a_network_without_learned_variance(
    facts: dict[str, Any], variance: str, prediction: str
) -> None:
    read = reference("guided_legacy_order")
    config, _ = read_unet(read.weights, GuidedFacts(**read.about["facts"], **facts))
    assert (config.variance, config.prediction, config.classes) == (variance, prediction, None)


def test_the_linear_schedule_keeps_its_noise_level_whatever_t_is() -> None:
    """As `get_named_beta_schedule` of both repositories: 4000 steps have a quarter of the betas of 1000."""
    facts = dataclasses.replace(FACTS, noise_schedule="linear", diffusion_steps=4000)
    config, _ = read_unet(reference("improved").weights, facts)
    betas = config.schedule.build().betas
    assert (len(betas), betas[0], betas[-1]) == (4000, pytest.approx(2.5e-5), pytest.approx(5e-3))


# name: (parameters, channels, channel_mult, num_res_blocks, attention_levels, num_classes). The parameters are those of
# the reference classes, built with the flags of the repositories' READMEs; they agree with the published sizes.
IDDPM: dict[str, tuple[int, int, tuple[float, ...], int, tuple[int, ...], int | None]] = {
    "iddpm-cifar10": (52_546_438, 128, (1, 2, 2, 2), 3, (1, 2), None),
    "iddpm-imagenet64": (121_063_942, 128, (1, 2, 3, 4), 3, (2, 3), None),
    "iddpm-imagenet64-cond": (273_049_350, 192, (1, 2, 3, 4), 3, (2, 3), 1000),
    "iddpm-lsun": (113_676_678, 128, (1, 1, 2, 2, 4, 4), 2, (4,), None),
}
ADM: dict[str, tuple[int, int, tuple[float, ...], int, tuple[int, ...], int | None]] = {
    "adm-64": (295_904_454, 192, (1, 2, 3, 4), 3, (1, 2, 3), 1000),
    "adm-128": (421_529_606, 256, (1, 1, 2, 3, 4), 2, (2, 3, 4), 1000),
    "adm-256": (553_838_086, 256, (1, 1, 2, 2, 4, 4), 2, (3, 4, 5), 1000),
    "adm-256-uncond": (552_814_086, 256, (1, 1, 2, 2, 4, 4), 2, (3, 4, 5), None),
    "adm-512": (558_997_638, 256, (0.5, 1, 1, 2, 2, 4, 4), 2, (4, 5, 6), 1000),
    "adm-lsun": (552_814_086, 256, (1, 1, 2, 2, 4, 4), 2, (3, 4, 5), None),
}
CLASSIFIERS: dict[str, tuple[int, int, tuple[float, ...], int, tuple[int, ...]]] = {
    "adm-classifier-64": (65_438_568, 64, (1, 2, 3, 4), 4, (1, 2, 3)),
    "adm-classifier-128": (42_568_040, 128, (1, 1, 2, 3, 4), 2, (2, 3, 4)),
    "adm-classifier-256": (54_096_360, 256, (1, 1, 2, 2, 4, 4), 2, (3, 4, 5)),
    "adm-classifier-512": (54_448_360, 512, (0.5, 1, 1, 2, 2, 4, 4), 2, (4, 5, 6)),
}
POOL = {"pool": "out.2", "pool.qkv": "out.2.qkv_proj", "pool.proj": "out.2.c_proj"}


def foreign(network: nn.Module, modules: dict[str, str]) -> dict[str, Tensor]:
    """A state dict under the reference's names; it has 1x1 convolutions of one dimension in the attention."""
    weights = {}
    for name, tensor in network.state_dict().items():
        module, _, leaf = name.rpartition(".")
        weights[f"{modules[module]}.{leaf}"] = tensor.squeeze(-1) if ".attention." in name else tensor
    return weights


@pytest.mark.parametrize("name", [*IDDPM, *ADM])
def test_released_networks_are_recognised_by_their_shapes(name: str) -> None:
    """On the meta device: shapes and no numbers."""
    parameters, channels, mult, blocks, attention, classes = {**IDDPM, **ADM}[name]
    facts = RELEASED[name]
    assert isinstance(facts, GuidedFacts)
    built = UNetConfig(
        out_channels=6,
        channels=channels,
        channel_mult=mult,
        num_res_blocks=blocks,
        attention_levels=attention,
        heads=facts.num_heads,
        time_injection="add" if name == "iddpm-lsun" else "scale_shift",
        time_order="cos_sin",
        timestep_scale=0.25 if name in ("iddpm-cifar10", "iddpm-imagenet64") else 1.0,
        dropout=facts.dropout,
        resample="resblock" if name in ADM else "conv",
        num_classes=classes,
        null_class=False,
    )
    with torch.device("meta"):
        weights = foreign(UNet(built), encoder_names(built) | decoder_names(built))
    config, network = read_unet(weights, facts)
    assert config.network == built
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters
    assert config.image_size == int("".join(filter(str.isdigit, name.split("-")[1])).replace("10", "32") or 256)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_released_classifiers_are_recognised_by_their_shapes(name: str) -> None:
    parameters, size, mult, blocks, attention = CLASSIFIERS[name]
    built = ClassifierConfig(image_size=size, channel_mult=mult, num_res_blocks=blocks, attention_levels=attention)
    with torch.device("meta"):
        weights = foreign(Classifier(built), encoder_names(built.unet) | POOL)
    facts = RELEASED[name]
    assert isinstance(facts, ClassifierFacts)
    classifier = read_classifier(weights, facts)
    assert classifier.config == built
    assert sum(parameter.numel() for parameter in classifier.parameters()) == parameters


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"num_heads": 3}, "the facts contradict the weights: heads 3 does not divide the 64 channels of level 1"),
        ({"classes": ("cat",)}, "the facts name 1 classes, but the weights have 0"),
    ],
    ids=str,
)
def test_facts_that_contradict_the_weights_are_refused(given: dict[str, Any], reason: str) -> None:
    assert reason in refusal(reference("improved").weights, dataclasses.replace(FACTS, **given))


def test_impossible_facts_are_refused() -> None:
    with pytest.raises(CheckpointError, match="either num_heads or num_head_channels"):
        dataclasses.replace(FACTS, num_head_channels=16)


def without_resampling(weights: Weights) -> dict[str, Tensor]:
    """As `conv_resample False` of both repositories leaves it."""
    return {name: tensor for name, tensor in weights.items() if ".op." not in name and "2.1.conv" not in name}


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda w: change(w, input_blocks__0__0__weight=torch.zeros(32, 6, 3, 3)), "this is a super-resolution model"),
        (lambda w: change(w, out__2__weight=torch.zeros(4, 32, 3, 3)), "3 channels in and 4 out is not a denoiser"),
        (lambda w: change(w, out__0__bias=None), "the checkpoint lacks the tensor out.0.bias"),
        (lambda w: change(w, time_embed__0__weight=None), "the checkpoint lacks the tensor time_embed.0.weight"),
        (lambda w: change(w, extra__weight=torch.zeros(1)), "does not belong to this network: extra.weight"),
        (
            lambda w: change(w, out__0__bias=torch.zeros(31)),
            "the tensor out.0.bias must have shape (32,) to fit the others, not (31,)",
        ),
        (without_resampling, "without weights of their own (conv_resample False)"),
    ],
    ids=["super-resolution", "outputs", "missing", "missing early", "left over", "shape", "no resampling"],
)
def test_weights_that_cannot_be_served_are_refused(damage: Callable[[Weights], dict[str, Tensor]], reason: str) -> None:
    assert reason in refusal(damage(reference("improved").weights))


def test_a_classifier_that_pools_otherwise_is_refused() -> None:
    weights = change(reference("guided_classifier").weights, out__2__positional_embedding=None)
    with pytest.raises(CheckpointError, match="does not pool by attention"):
        read_classifier(weights, ClassifierFacts(16, "cosine", 1000))
