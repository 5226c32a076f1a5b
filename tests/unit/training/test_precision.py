"""float16 trains with a scale that no stream of NaN can drive to zero."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from training.precision import LEAST_SCALE, Scaler

CPU = torch.device("cpu")


def one_step(scaler: Scaler, weight: nn.Parameter, factor: float) -> None:
    optimizer = torch.optim.SGD([weight], lr=1.0)
    optimizer.zero_grad()
    scaler.backward((factor * weight).sum())
    scaler.unscale(optimizer)
    assert weight.grad is not None
    if torch.isfinite(weight.grad).all():
        scaler.step(optimizer)
    scaler.update()


def test_the_scale_falls_to_its_floor_and_gradients_still_arrive() -> None:
    scaler, weight = Scaler("fp16", CPU), nn.Parameter(torch.tensor([0.0]))
    for _ in range(40):
        one_step(scaler, weight, float("nan"))
    assert scaler.state()["scale"] == LEAST_SCALE
    assert not scaler.can_fall
    assert weight.item() == 0
    one_step(scaler, weight, 3.0)
    assert weight.item() == -3.0


def test_gradients_have_their_true_size_whatever_the_scale() -> None:
    for precision in ("fp16", "bf16", "float32"):
        weight = nn.Parameter(torch.tensor([1.0]))
        one_step(Scaler(precision, CPU), weight, 0.25)
        assert weight.item() == 0.75


def test_the_scale_is_part_of_a_run_s_state() -> None:
    scaler, weight = Scaler("fp16", CPU), nn.Parameter(torch.tensor([0.0]))
    one_step(scaler, weight, float("inf"))
    again = Scaler("fp16", CPU)
    again.load(scaler.state())
    assert again.state() == scaler.state() != Scaler("fp16", CPU).state()


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_other_formats_have_no_scale(precision: str) -> None:
    scaler = Scaler(precision, CPU)  # type: ignore[arg-type]
    assert scaler.state() == {}
    assert not scaler.can_fall
