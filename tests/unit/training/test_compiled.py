"""A compiled network is compared with the network before it trains; compilers are stood in for by functions."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from difuso.model.networks.layers import RowLinear
from difuso.training.errors import RecipeError
from difuso.training.run.compiled import CompiledNetwork

Compiler = Callable[[nn.Module], Callable[..., Tensor]]


class Chain(nn.Module):
    """Two layers, of which the last is zero at the start, as in every U-Net here."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.first, self.dropout, self.last = nn.Linear(4, 8), nn.Dropout(dropout), nn.Linear(8, 4)
        self.register_buffer("calls", torch.zeros(()))
        self.calls: Tensor
        nn.init.zeros_(self.last.weight)

    def forward(self, x: Tensor, t: Tensor, *, lost: bool = False) -> Tensor:
        self.calls.add_(1)
        hidden = self.dropout(self.first(x)) + t[:, None]
        out: Tensor = self.last(hidden.detach() if lost else hidden)
        return out


def rightly(network: nn.Module) -> Callable[..., Tensor]:
    return lambda *inputs, **inputs_by_name: network(*inputs, **inputs_by_name) * (1 + 1 / 256)


def without_a_gradient(network: nn.Module) -> Callable[..., Tensor]:
    return lambda *inputs, **inputs_by_name: network(*inputs, **inputs_by_name, lost=True)


def with_nan(network: nn.Module) -> Callable[..., Tensor]:
    def call(x: Tensor, t: Tensor) -> Tensor:
        out: Tensor = network(x, t)
        return out + (out - out.detach()) * float("nan")

    return call


def first_call(compiler: Compiler, monkeypatch: pytest.MonkeyPatch, dropout: float = 0.0) -> nn.Module:
    """Calls a new network compiled, and returns the network."""
    monkeypatch.setattr(torch, "compile", compiler)
    torch.manual_seed(1)
    network = Chain(dropout)
    called = CompiledNetwork(network, network)
    called(torch.linspace(-1, 1, 12).view(3, 4), torch.arange(3.0))
    return network


@pytest.mark.parametrize("compiler", [without_a_gradient, with_nan])
def test_other_gradients_are_refused_though_the_last_layer_hides_them(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RecipeError, match=r"other gradients than PyTorch for \d of 4 weights here: set precision"):
        first_call(compiler, monkeypatch)


def test_rounding_is_accepted_and_the_comparison_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(1)
    fresh, drawn = Chain(), torch.rand(3)
    network = first_call(rightly, monkeypatch)
    assert torch.equal(torch.rand(3), drawn)
    for parameter, own in zip(network.parameters(), fresh.parameters(), strict=True):
        assert torch.equal(parameter, own)
        assert parameter.grad is None
    assert network.calls == 1  # of the training


def test_a_network_that_draws_by_chance_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    first_call(without_a_gradient, monkeypatch, dropout=0.9)


@pytest.mark.slow
def test_layers_kept_in_float32_have_gradients_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    def gradient(called: Callable[..., Tensor]) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            error = called(x).square().mean()
        error.backward()  # type: ignore[no-untyped-call]
        assert layer.weight.grad is not None
        found = layer.weight.grad.clone()
        layer.weight.grad = None
        return found

    torch_compile = torch.compile
    monkeypatch.setattr(torch, "compile", lambda network: torch_compile(network, backend="aot_eager"))
    torch.manual_seed(1)
    layer, x = RowLinear(48, 48), torch.randn(32, 48)
    assert torch.equal(gradient(CompiledNetwork(layer, layer)), gradient(layer))
