"""Networks and whole guided runs of JiT are here what they are there, or are refused."""

import dataclasses
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from difuso.model import CheckpointError, sample
from difuso.model.checkpoint import Checkpoint
from difuso.model.folders.config_json import config_from_json, config_to_json
from difuso.model.folders.parsing import parse
from difuso.model.formats import jit
from difuso.model.formats.facts import JiTFacts
from difuso.model.formats.state_dicts import layout_of, read_pickle
from difuso.model.networks.build import build_network
from difuso.model.networks.configs import DiTConfig
from difuso.model.sampling import networks_of
from tests.foreign import noise, reference
from tests.jit import CLEAN, GUIDED_FROM, JIT, LABELS, SCALE, SEEDS, SIZE, STEPS
from tests.rounding import assert_rounded_alike, layers

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]


def weights_of(name: str) -> dict[str, Tensor]:
    read = reference(name)
    return read.weights | {"net.pos_embed": read.outputs["pos_embed"]}


def converted(name: str, weights: dict[str, Tensor] | None = None, **changes: Any) -> Checkpoint:
    facts = dataclasses.replace(parse(JiTFacts, reference(name).about["facts"]), **changes)
    config, network = jit.read_unet(weights or weights_of(name), facts)
    return Checkpoint(name, config, network, config.schedule.build(), "")


@torch.no_grad()
@pytest.mark.parametrize("name", JIT)
def test_a_call_is_that_of_the_reference(name: str) -> None:
    """Their time is that of the clean image, which is 1 where ours is 0."""
    network = converted(name).network
    x, time = noise("x", len(CLEAN), 3, SIZE, SIZE), 1000 * (1 - torch.tensor(CLEAN))
    mine = network(x, time, labels=torch.tensor(LABELS))
    assert_rounded_alike(mine, reference(name).outputs["called"], steps=layers(network))
    assert_rounded_alike(mine[2:], network(x[2:], time[2:]), steps=layers(network))  # the last row is "no class"


@pytest.mark.parametrize("name", JIT)
def test_a_guided_run_is_that_of_the_reference(name: str) -> None:
    checkpoint = converted(name)
    s = 1 - GUIDED_FROM
    settings: dict[str, Any] = {"guidance_scale": SCALE, "guidance_high": JIT[name][0] * s / (1 - s)}
    plan = checkpoint.config.plan(checkpoint.schedule, sampler="euler", spacing="trailing", steps=STEPS, **settings)
    assert [scale == SCALE for scale in plan.scales] == [False, False, *[True] * 8]
    for i, seed in enumerate(SEEDS):
        mine = sample(plan, **networks_of(checkpoint, LABELS[i]), shape=(3, SIZE, SIZE), seeds=[seed])
        theirs = reference(name).outputs["drawn"][i : i + 1]
        assert_rounded_alike(mine, theirs, steps=STEPS * layers(checkpoint.network), largest=4.0)


@pytest.mark.parametrize("name", JIT)
def test_a_converted_model_can_be_written_and_planned(name: str) -> None:
    config = converted(name).config
    assert config_from_json(config_to_json(config)) == config
    assert (config.image_size, config.classes) == (SIZE, ("0", "1", "2"))
    assert len(config.plan(config.schedule.build())) == config.defaults.steps


def test_all_that_were_released_begin_their_context_at_a_third_of_the_blocks() -> None:
    assert converted("jit", in_context_start=None).config.network == converted("jit").config.network


def test_their_trainers_files_are_read_with_the_average_that_they_draw_with(tmp_path: Path) -> None:
    weights = weights_of("jit")
    zeros = {name: torch.zeros_like(tensor) for name, tensor in weights.items()}
    saved = {"model": zeros, "optimizer": {"state": {}}, "epoch": 3, "args": Namespace(model="JiT-B/16", cfg=1.0)}
    torch.save(saved | {"model_ema1": weights, "model_ema2": zeros}, tmp_path / "checkpoint-last.pth")
    read = read_pickle(tmp_path / "checkpoint-last.pth")
    assert layout_of(read) == layout_of({name.removeprefix("net."): 0 for name in read}) == "jit"
    assert all(torch.equal(tensor, weights[name]) for name, tensor in read.items())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"net.pixel_embed.weight": torch.zeros(4, 3)}, "does not belong to this network: pixel_embed.weight"),
        ({"net.blocks.1.mlp.w3.weight": torch.zeros(48, 64)}, "blocks.1.mlp.w3.weight must have shape"),
        ({"net.blocks.0.attn.q_norm.weight": torch.ones(9)}, "channels must be a multiple of 4 times heads"),
    ],
    ids=["stranger", "shape", "heads"],
)
def test_another_network_is_refused(change: dict[str, Tensor], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        converted("jit", weights_of("jit") | change)


SMALL: dict[str, Any] = {"channels": 32, "depth": 2, "heads": 2, "patch": 4, "bottleneck": 16}


def awake(config: DiTConfig) -> Any:
    torch.manual_seed(0)
    network = build_network(config).eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.copy_(0.2 * torch.randn(parameter.shape))
    return network


def test_images_need_not_be_square() -> None:
    network = awake(DiTConfig(**SMALL))
    x = noise("x", 2, 3, 8, 20)
    assert network(x, torch.tensor([5, 900])).shape == x.shape


def test_it_takes_a_class_and_a_vector() -> None:
    network = awake(DiTConfig(**SMALL, num_classes=3, vector_size=5, context_tokens=2))
    x, t, vector = noise("x", 1, 3, 8, 8).expand(4, -1, -1, -1), torch.full((4,), 300), noise("v", 2, 5)
    inputs = {"labels": torch.tensor([0, 1, 0, 3]), "vector": vector[[0, 0, 1, 0]]}
    out = network(x, t, **inputs)
    assert len({float(each) for each in out.sum((1, 2, 3))}) == 4
    assert torch.equal(network(x, t, vector=inputs["vector"])[3], out[3])


def test_a_fresh_network_predicts_zero_and_learns_everywhere() -> None:
    """adaLN-Zero: gates begin at zero, so that the first step moves the last layer alone, and later steps all."""
    network = build_network(DiTConfig(**SMALL, num_classes=3, context_tokens=2, vector_size=5))
    x, t, inputs = noise("x", 2, 3, 8, 8), torch.tensor([3, 700]), {"labels": torch.tensor([0, 3])}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    assert not network(x, t, **inputs, vector=noise("v", 2, 5)).any()
    for _ in range(3):
        optimizer.zero_grad()
        torch.autograd.backward((network(x, t, **inputs, vector=noise("v", 2, 5)) - x).square().mean())
        optimizer.step()
    assert [name for name, each in network.named_parameters() if each.grad is None or not each.grad.any()] == []
