"""float16 trains with a scale that no stream of NaN can drive to zero; `auto` is the format that is faster here."""

from __future__ import annotations

import time

import pytest
import torch
from torch import nn

from training.recipe import Precision
from training.run.precision import LEAST_SCALE, Scaler, fastest, timed_formats
from training.run.processes import ALONE

CPU = torch.device("cpu")


def one_step(scaler: Scaler, weight: nn.Parameter, factor: float) -> None:
    optimizer = torch.optim.SGD([weight], lr=1.0)
    optimizer.zero_grad()
    torch.autograd.backward(scaler.scale((factor * weight).sum()))
    scaler.unscale_(optimizer)
    assert weight.grad is not None
    if torch.isfinite(weight.grad).all():
        scaler.step(optimizer)
    scaler.update()


def test_the_scale_falls_to_its_floor_and_gradients_still_arrive() -> None:
    scaler, weight = Scaler("fp16", CPU), nn.Parameter(torch.tensor([0.0]))
    for _ in range(40):
        one_step(scaler, weight, float("nan"))
    assert scaler.state_dict()["scale"] == LEAST_SCALE
    assert not scaler.can_fall
    assert weight.item() == 0
    one_step(scaler, weight, 3.0)
    assert weight.item() == -3.0


def test_gradients_have_their_true_size_whatever_the_scale() -> None:
    formats: tuple[Precision, ...] = ("fp16", "bf16", "float32")
    for number_format in formats:
        weight = nn.Parameter(torch.tensor([1.0]))
        one_step(Scaler(number_format, CPU), weight, 0.25)
        assert weight.item() == 0.75


def test_the_scale_is_part_of_a_run_s_state() -> None:
    scaler, weight = Scaler("fp16", CPU), nn.Parameter(torch.tensor([0.0]))
    one_step(scaler, weight, float("inf"))
    again = Scaler("fp16", CPU)
    again.load_state_dict(scaler.state_dict())
    assert again.state_dict() == scaler.state_dict() != Scaler("fp16", CPU).state_dict()


def test_a_run_may_go_on_in_fp16_that_began_in_another_format() -> None:
    scaler = Scaler("fp16", CPU)
    scaler.load_state_dict(Scaler("bf16", CPU).state_dict())
    assert scaler.state_dict() == Scaler("fp16", CPU).state_dict()


@pytest.mark.parametrize("number_format", ["float32", "bf16"])
def test_other_formats_have_no_scale(number_format: Precision) -> None:
    scaler = Scaler(number_format, CPU)
    assert scaler.state_dict() == {}
    assert not scaler.can_fall


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
