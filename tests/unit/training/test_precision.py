"""`auto` is the number format that is faster here."""

from __future__ import annotations

import time

import pytest
import torch

from difuso.training.recipe import Precision
from difuso.training.run.precision import fastest, timed_formats
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
