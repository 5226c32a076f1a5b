"""Muon for matrices, AdamW for all else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from difuso.training.recipe_reading import load_recipe
from difuso.training.run.optimizers import MatrixMuon, optimizers_of

pytestmark = pytest.mark.usefixtures("one_thread")


def small() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 6, 3), nn.Conv2d(6, 3, 1))
    network: nn.Sequential = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def step(muon: MatrixMuon, weight: Tensor) -> None:
    """Steps with a random gradient."""
    weight.grad = torch.randn_like(weight)
    muon.take_gradients()
    muon.step()  # type: ignore[no-untyped-call]


def test_a_step_is_orthogonal_and_as_large_as_adamw_s() -> None:
    """The update of a kernel from 8 to 6 channels, 3x3, is 0.2 sqrt(72) times a matrix with singular values near 1."""
    network, rate = small(), 1e-3
    weight = network.get_parameter("2.weight")
    before = weight.detach().clone()
    muon = MatrixMuon([weight], weight_decay=0.0)
    muon.param_groups[0]["lr"] = rate
    step(muon, weight)
    change = (before - weight.detach()).permute(0, 2, 3, 1).reshape(6, 72) / (rate * 0.2 * 72**0.5)
    singular = torch.linalg.svdvals(change)
    # Newton and Schulz's five iterations bring singular values into 0.7 to 1.2 (Jordan et al. 2024).
    assert singular.min() > 0.6
    assert singular.max() < 1.3


def test_a_step_does_not_depend_on_the_order_of_weights_in_memory() -> None:
    """Networks of other packages keep theirs contiguous."""
    changed = []
    for order in (torch.channels_last, torch.contiguous_format):
        weight = small().get_parameter("2.weight").detach().clone(memory_format=order).requires_grad_()
        muon = MatrixMuon([weight], weight_decay=0.0)
        weight.grad = torch.linspace(-1, 1, weight.numel()).cos().view(weight.shape).clone(memory_format=order)
        muon.take_gradients()
        muon.step()  # type: ignore[no-untyped-call]
        changed.append(weight.detach())
    assert torch.allclose(changed[0], changed[1], atol=1e-5)


def test_the_change_is_seen_by_the_weight_s_count_of_versions() -> None:
    """By which autograd knows that a saved weight is no longer the same."""
    network = small()
    weight = network.get_parameter("2.weight")
    version = weight._version
    step(MatrixMuon([weight], weight_decay=0.0), weight)
    assert weight._version > version


def test_ends_norms_and_biases_stay_with_adamw() -> None:
    network = small()
    adamw, muon = optimizers_of(load_recipe("smoke", ["optimizer=muon"]), network)
    (matrix,) = muon.param_groups[0]["params"]
    assert matrix.data_ptr() == network.get_parameter("2.weight").data_ptr()
    assert len(adamw.param_groups[0]["params"]) == len(list(network.parameters())) - 1
    (alone,) = optimizers_of(load_recipe("smoke"), network)
    assert len(alone.param_groups[0]["params"]) == len(list(network.parameters()))
