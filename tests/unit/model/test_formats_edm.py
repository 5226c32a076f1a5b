"""Networks and whole runs of EDM and EDM2 are here what they are there, or are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from difuso.model import CheckpointError, sample
from difuso.model.checkpoint import Checkpoint
from difuso.model.folders.config_json import config_from_json, config_to_json
from difuso.model.folders.parsing import parse
from difuso.model.formats import edm, edm2
from difuso.model.formats.facts import EDMFacts
from difuso.model.formats.state_dicts import layout_of
from difuso.model.noise import draw_noise, image_generator
from tests.foreign import Reference, noise, reference
from tests.rounding import assert_rounded_alike, layers
from tests.sigma import EDM, EDM2, IMAGE, SEEDS, STEPS

pytestmark = [pytest.mark.processors, pytest.mark.usefixtures("one_thread")]

RUNS = [name for name in (*EDM, *EDM2) if name != "edm_iddpm"]


def facts_of(read: Reference, **changes: Any) -> EDMFacts:
    return parse(EDMFacts, {**read.about["facts"], **changes})


def converted(name: str, **changes: Any) -> Checkpoint:
    read = reference(name)
    module = edm2 if name.startswith("edm2") else edm
    config, network = module.read_unet(read.weights, facts_of(read, **changes))
    return Checkpoint(name, config, network, config.schedule.build(), "")


def denoised(checkpoint: Checkpoint, x: Tensor, sigmas: Tensor, labels: Tensor | None) -> Tensor:
    """The predicted images at noise levels between the timesteps."""
    schedule = checkpoint.schedule
    t = torch.from_numpy(schedule.timestep_at(sigmas.double().numpy())).float()
    out: Tensor = checkpoint.denoiser(x, t, **({} if labels is None else {"labels": labels}))[:, : x.shape[1]]
    y, spread = (1 + sigmas**2).sqrt().view(-1, 1, 1, 1) * x, sigmas.view(-1, 1, 1, 1)
    return out if checkpoint.config.prediction == "x0" else y - spread * out


def labels_of(checkpoint: Checkpoint) -> Tensor | None:
    return None if checkpoint.config.classes is None else torch.tensor([0, 2])


@torch.no_grad()
@pytest.mark.parametrize("name", [*EDM, *EDM2])
def test_a_denoised_image_is_that_of_the_reference(name: str) -> None:
    read, checkpoint = reference(name), converted(name)
    x, sigmas = noise("x", 2, 3, IMAGE, IMAGE), read.outputs["sigmas"]
    mine = denoised(checkpoint, x, sigmas, labels_of(checkpoint))
    noisy = float(x.abs().max() * (1 + sigmas.max() ** 2).sqrt())
    inputs = 999 if name == "edm_vp" else 0  # its network gets times up to 999, and its sinusoids see their rounding
    assert_rounded_alike(mine, read.outputs["denoised"], steps=layers(checkpoint.denoiser) + inputs, largest=noisy)


@torch.no_grad()
def test_an_image_of_no_class_is_that_of_the_reference() -> None:
    read, checkpoint = reference("edm_ddpmpp_classes"), converted("edm_ddpmpp_classes")
    x, sigmas = noise("x", 2, 3, IMAGE, IMAGE), read.outputs["sigmas"]
    for labels in (None, torch.tensor([3, 3])):
        mine = denoised(checkpoint, x, sigmas, labels)
        assert_rounded_alike(mine, read.outputs["no_class"], steps=layers(checkpoint.denoiser))
    assert (denoised(checkpoint, x, sigmas, torch.tensor([0, 2])) - read.outputs["no_class"]).abs().max() > 1e-3


@pytest.mark.parametrize("name", RUNS)
def test_a_run_by_heun_s_method_is_that_of_the_reference(name: str) -> None:
    """On the same grid, which follows from the facts; sampler, spacing and clipping are the model's own."""
    checkpoint, theirs = converted(name), reference(name).outputs["heun"]
    config, labels = checkpoint.config, labels_of(checkpoint)
    plan = config.plan(checkpoint.schedule, steps=2 * STEPS - 1)
    spread = float(np.sqrt(1 - checkpoint.schedule.alphas_cumprod[-1]))
    start = spread * draw_noise([image_generator(seed) for seed in SEEDS], config.shape)

    def denoiser(x: Tensor, t: Tensor) -> Tensor:
        out: Tensor = checkpoint.denoiser(x, t, **({} if labels is None else {"labels": labels}))
        return out

    mine = sample(plan, denoiser, shape=config.shape, seeds=SEEDS, noise=start)
    assert theirs.std() > 0.01
    assert_rounded_alike(mine, theirs, steps=len(plan) * layers(checkpoint.denoiser))


@pytest.mark.parametrize("name", [*EDM, *EDM2])
def test_the_config_survives_json(name: str) -> None:
    checkpoint = converted(name)
    assert config_from_json(config_to_json(checkpoint.config)) == checkpoint.config
    assert not any(parameter.requires_grad for parameter in checkpoint.network.parameters())
    assert not checkpoint.network.training


@pytest.mark.parametrize(
    ("name", "changes", "reason"),
    [
        ("edm2", {"encoder": "StabilityVAEEncoder"}, "this is a latent model"),
        ("edm2", {"res_balance": 0.5}, "the facts give res_balance 0.5; only res_balance 0.3 can be served"),
        ("edm_vp", {"M": 4000}, "the facts give M 4000; only M 1000 can be served"),
        ("edm_ncsnpp", {"sigma_max": None}, "which are not a range of sigmas"),
        ("edm_ncsnpp", {"resample_filter": (1, 4, 4, 1)}, "resample_filter [1, 4, 4, 1], which cannot be served"),
        ("edm_ddpmpp", {"attn_resolutions": ()}, "does not belong to this network: model.dec.8x8_block1.norm2.bias"),
        ("edm_adm", {"channel_mult_emb": 2}, "a channel_mult_emb other than 4"),
        ("edm_ddpmpp_classes", {"label_dim": 4}, "model.map_label.weight must have shape (5, 16)"),
        ("edm_ddpmpp", {"classes": ("cat",)}, "the facts name 1 classes, but the weights have 0"),
    ],
    ids=str,
)
def test_networks_that_cannot_be_served_are_refused(name: str, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        converted(name, **changes)
    assert reason in str(caught.value)


def test_the_layouts_show_in_the_names() -> None:
    assert layout_of(reference("edm_vp").weights) == layout_of(reference("edm_adm").weights) == "edm"
    assert layout_of(reference("edm2").weights) == "edm2"
