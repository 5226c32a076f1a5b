"""config.json says all that the weights do not, survives the way to disk, and is refused by name if it is of no use."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import TypeAdapter

from difuso.model import CheckpointError, ModelConfig
from difuso.model.conditions import CONDITIONS
from difuso.model.folders.config import SamplerDefaults, ScheduleConfig
from difuso.model.folders.config_json import config_from_json, config_to_json, config_to_text
from difuso.model.networks.configs import NETWORKS, ForeignConfig, PaperUNetConfig, UNetConfig
from difuso.model.networks.sigma_configs import EDM2UNetConfig, SongUNetConfig
from difuso.model.plans.clipping import Clipping
from difuso.model.plans.prediction import Preconditioning

TINY = ModelConfig(
    UNetConfig(channels=8, channel_mult=(1, 2), attention_levels=(1,), head_channels=8, groups=4, num_classes=2),
    image_size=8,
    schedule=ScheduleConfig("cosine", 200),
    classes=("cat", "dog"),
    training={"recipe": "tiny", "steps": 3},
)
CONTENT = config_to_json(TINY)
EDM = {"prediction": "x0", "preconditioning": {"kind": "edm"}, "schedule": {"type": "cosine"}}
ALWAYS_LABELLED = CONTENT["network"] | {"null_class": False}


def refusal(content: dict[str, Any]) -> str:
    with pytest.raises(CheckpointError) as caught:
        config_from_json(content)
    return str(caught.value)


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        ModelConfig(UNetConfig()),
        ModelConfig(PaperUNetConfig(in_channels=1, out_channels=1), channels=1, prediction="x0", clip=Clipping("none")),
        ModelConfig(
            PaperUNetConfig(),
            schedule=ScheduleConfig("scaled_linear", 500, beta_end=0.03),
            variance="fixed_large",
            defaults=SamplerDefaults("ddpm", 500, "linspace"),
        ),
        ModelConfig(
            PaperUNetConfig(), schedule=ScheduleConfig("listed", 60, betas=tuple(0.01 + 0.001 * i for i in range(60)))
        ),
        ModelConfig(
            SongUNetConfig(fourier=True, encoder="skip", decoder="skip", resample="binomial"),
            image_size=32,
            schedule=ScheduleConfig("geometric", 500, sigma_min=0.01, sigma_max=50.0),
            prediction="x0",
            preconditioning=Preconditioning("edm", 0.4),
            defaults=SamplerDefaults("heun", 35, "karras"),
        ),
        ModelConfig(
            EDM2UNetConfig(num_classes=2),
            schedule=ScheduleConfig("continuous_linear", 1000, 1e-4, 0.02),
            preconditioning=Preconditioning("vp"),
            classes=("cat", "dog"),
        ),
        ModelConfig(UNetConfig(), weaker=PaperUNetConfig(), defaults=SamplerDefaults(guidance_scale=2.5)),
        ModelConfig(
            UNetConfig(num_classes=2),
            classes=("cat", "dog"),
            defaults=SamplerDefaults(guidance_low=0.2),
            plans={"few": SamplerDefaults(steps=8, guidance_high=3.0)},
        ),
        ModelConfig(UNetConfig(), image_size=(64, 96)),
        ModelConfig(UNetConfig(in_channels=8, out_channels=8), channels=8),
        ModelConfig(UNetConfig(), plans={"few": SamplerDefaults("dpmpp", 3, "at:12.5,160,999")}),
        ModelConfig(
            UNetConfig(),
            defaults=SamplerDefaults("ddim", 100, "at:" + ",".join(f"{9 * i}.123456" for i in range(100))),
        ),
    ],
)
def test_config_survives_json(config: ModelConfig) -> None:
    assert config_from_json(json.loads(json.dumps(config_to_json(config)))) == config


def test_the_text_of_a_config_changes_no_name() -> None:
    for name in ("[", "]", "  [  a", "b ]", "a, b", "{}", '"', "\n", "\u2028  ", "[1,\n   2]"):
        content = {"values": [name, "x", name], "none": [], "tables": [{"classes": [name]}]}
        assert json.loads(config_to_text(content)) == content


def test_what_may_be_left_out_has_its_default() -> None:
    config = config_from_json({"format": 1, "network": {"type": "paper_unet"}, "schedule": {}})
    assert config == ModelConfig(PaperUNetConfig())


def test_the_schedule_is_built_from_its_name_and_ends() -> None:
    betas = ScheduleConfig("linear", 10, beta_start=0.1, beta_end=0.2).build().betas
    assert (len(betas), betas[0], betas[-1]) == (10, pytest.approx(0.1), pytest.approx(0.2))
    assert ScheduleConfig("scaled_linear").build().betas[-1] == pytest.approx(0.012)  # Rombach et al. 2022


def test_a_classifier_needs_the_squares_that_it_was_trained_on() -> None:
    small = {"channels": 8, "channel_mult": [1, 2], "attention_levels": [], "head_channels": 8, "groups": 4}
    classifier = {"image_size": 8, "num_classes": 2, **small}
    assert config_from_json({**CONTENT, "classifier": classifier}).classifier is not None
    for size in (16, [8, 16]):
        assert "make image_size the same" in refusal({**CONTENT, "image_size": size, "classifier": classifier})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"format": 2}, "format 2; this version reads format 1"),
        ({"plans": []}, "plans must be a table of tables"),
        ({"plans": {"Few/er": {}}}, "plans: String should match pattern"),
        ({"plans": {"few": {"spacing": "at:9,5"}}}, "spacing must list rising timesteps"),
        (
            {"network": {"type": "mlp"}},
            "network.type must be one of unet, paper_unet, song_unet, edm2_unet, dit, got 'mlp'",
        ),
        ({"network": {"type": "unet", "depth": 3}}, "unknown key network.depth: known are"),
        ({"defaults": {"clip": {}}}, "unknown key defaults.clip: clip belongs beside defaults, not into it"),
        ({"network": {"type": "unet", "groups": 7}}, "groups 7 does not divide the 128 channels"),
        ({"network": {"type": "unet", "channel_mult": []}}, "config.json: "),
        (
            {"defaults": "x"},
            "defaults must be a table of sampler, steps, ",
        ),
        (
            {"schedule": {"type": "sigmoid"}},
            "schedule.type: Input should be 'linear', 'scaled_linear', 'cosine', 'listed', 'geometric', ",
        ),
        ({"schedule": {"betas": [0.1]}}, "linear schedule has no betas: leave out betas"),
        ({"schedule": {"type": "listed", "betas": [0.1, 0.2]}}, "betas must be 1000 numbers, not 2"),
        (
            {"schedule": {"sigma_min": 0.1, "sigma_max": 2}},
            "linear schedule has no sigma_min and no sigma_max: leave out sigma_min, sigma_max",
        ),
        ({"schedule": {"type": "geometric", "sigma_min": 90}}, "sigma_min must be positive and less than sigma_max"),
        ({"preconditioning": {"kind": "edm"}}, "with preconditioning edm the prediction is x0, not eps"),
        ({"preconditioning": {"kind": "vp"}}, "preconditioning vp needs a schedule of the type continuous_linear"),
        (
            {"preconditioning": {"kind": "ve"}, "schedule": {"type": "continuous_linear"}},
            "continuous_linear, and no other kind takes one",
        ),
        (
            {
                "preconditioning": {"kind": "edm"},
                "prediction": "x0",
                "schedule": {"zero_terminal_snr": True},
            },
            "preconditioning needs a little of the image at the noisy end of the schedule",
        ),
        (
            {"schedule": {"type": "cosine", "beta_start": 0.1}},
            "cosine schedule has no beta_start: leave out beta_start",
        ),
        ({"prediction": "noise"}, "prediction: Input should be 'eps', 'x0', 'v' or 'flow', got 'noise'"),
        ({"defaults": {"steps": 201}}, "steps must lie between 1 and 200, got 201"),
        ({"channels": 2}, "channels must equal the network's in_channels"),
        (
            {"image_size": [16, 9]},
            "image_size must be a multiple of 2 in height and width, the network's size_multiple, not 16x9",
        ),
        ({"weaker": {"type": "unet", "in_channels": 1}}, "weaker.in_channels must be the network's, 3"),
        ({"weaker": {"type": "unet", "num_classes": 9}}, "weaker.num_classes must be the network's, 2"),
        (
            {"weaker": {"type": "unet", "num_classes": 2, "null_class": False}},
            "weaker.null_class must be the network's",
        ),
        ({"weaker": {"type": "unet", "num_classes": 2, "out_channels": 1}}, "weaker.out_channels must be at least 3"),
        (
            {**EDM, "network": {"type": "unet", "num_classes": 2, "out_channels": 6}},
            "with a preconditioning a network needs out_channels 3",
        ),
        ({"weaker": {"type": "unet", "num_classes": 2, "patch": 32}}, "image_size must be a multiple of 256"),
        (
            {"network": ALWAYS_LABELLED, "defaults": {"guidance_low": 2.0}},
            "defaults.guidance_low must be left out: the model was not trained without labels",
        ),
        ({"defaults": {"guidance_low": 2.0, "guidance_high": 1.0}}, "defaults: guidance_high must be greater than"),
        ({"defaults": {"guidance_scale": 2.0}}, "defaults.guidance_scale must be 1 for a model without a weaker"),
        (
            {"image_size": "big"},
            "image_size: Input should be a valid integer or Input should be a valid tuple, got 'big'",
        ),
        ({"classes": ["cat"]}, "classes and the network's num_classes disagree"),
        ({"colour": "red"}, "unknown key colour: known are network, "),
    ],
    ids=str,
)
def test_a_config_that_cannot_be_used_says_why(change: dict[str, Any], reason: str) -> None:
    assert reason in refusal({**CONTENT, **change})


@pytest.mark.parametrize("field", ["network", "schedule"])
def test_a_config_without_a_needed_field(field: str) -> None:
    content = {name: value for name, value in CONTENT.items() if name != field}
    assert refusal(content) == f"config.json: {field} is missing"


def numbers_in(schema: Any) -> list[dict[str, Any]]:
    """The parts of a JSON schema that describe numbers."""
    if isinstance(schema, list):
        return [number for each in schema for number in numbers_in(each)]
    if not isinstance(schema, dict):
        return []
    below = numbers_in(list(schema.values()))
    return [schema, *below] if schema.get("type") in ("integer", "number") else below


@pytest.mark.parametrize("kind", [ModelConfig, *NETWORKS.values(), ForeignConfig, *CONDITIONS.values()])
def test_every_number_has_a_bound(kind: type[Any]) -> None:
    """Without one a config could take all memory."""
    numbers = numbers_in(TypeAdapter(kind).json_schema())
    assert all({"minimum", "maximum"} <= number.keys() for number in numbers)
