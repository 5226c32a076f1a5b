"""`auto` is the number format that is faster here, and a compiler keeps the formats of gradients."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from difuso.model.networks.layers.row_linear import RowLinear
from difuso.training.recipe import Precision
from difuso.training.run.calls import compiled, fastest, timed_formats
from difuso.training.run.processes import ALONE

CPU = torch.device("cpu")


@pytest.mark.parametrize("faster", ["float32", "bf16"])
def test_the_faster_format_is_found(faster: Precision, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its fastest call after the first, which is slow for other reasons."""
    now = 0.0
    calls = {"float32": 0, "bf16": 0}

    def call(chosen: Precision) -> None:
        nonlocal now
        calls[chosen] += 1
        now += 100.0 if calls[chosen] == 1 and chosen == faster else 1.0 if chosen == faster else 2.0

    monkeypatch.setattr(time, "perf_counter", lambda: now)
    seconds = timed_formats(call, CPU)
    assert seconds == {each: 1.0 if each == faster else 2.0 for each in ("float32", "bf16")}
    assert fastest(seconds, CPU, ALONE) == faster


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
    assert torch.equal(gradient(compiled(layer)), gradient(layer))
