"""The time of network calls, which a GPU computes while the host goes on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# Calls that the host may be ahead of a GPU: with one the GPU would stand still between the end of a call and the
# next, and with more a new job would wait longer for its first.
AHEAD = 2

Report = Callable[[int, int, float], None]


class _Pending(NamedTuple):
    """A call whose time is not known yet."""

    rows: int
    bucket: int
    started: torch.cuda.Event
    ended: torch.cuda.Event


class CallTimer:
    """Makes network calls and reports how long each took.

    On a GPU the report comes up to AHEAD calls later, because the host does not wait for the end of a call. It waits
    when it is further ahead.

    Args:
        device: the device that computes.
        report: called with the rows, the bucket and the seconds of each call, in their order.
    """

    def __init__(self, device: torch.device, report: Report) -> None:
        self._on_gpu = device.type == "cuda"
        self._report = report
        self._pending: deque[_Pending] = deque()

    def __call__(self, call: Callable[[], Tensor], *, rows: int, bucket: int) -> Tensor:
        """Returns the output of a call of a network; what the call raises is not reported."""
        if not self._on_gpu:
            begun = time.perf_counter()
            out = call()
            self._report(rows, bucket, time.perf_counter() - begun)
            return out
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        started.record()
        out = call()
        ended.record()
        self._pending.append(_Pending(rows, bucket, started, ended))
        if len(self._pending) > AHEAD:
            self._settle(self._pending.popleft())
        return out

    def _settle(self, call: _Pending) -> None:
        call.ended.synchronize()
        self._report(call.rows, call.bucket, call.started.elapsed_time(call.ended) / 1000)
