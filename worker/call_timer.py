"""The time of network calls, which a GPU computes while the host goes on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

# Calls that the host may be ahead of a GPU. While the GPU computes one, the host prepares and queues the next; with
# more a new job would only wait longer.
AHEAD = 1


class TimedCall(NamedTuple):
    """A call that is over: its rows, the size of its batch, and its seconds."""

    rows: int
    bucket: int
    seconds: float


class _Pending(NamedTuple):
    rows: int
    bucket: int
    started: torch.cuda.Event
    ended: torch.cuda.Event


class CallTimer:
    """Makes the network calls of one model and finds how long each took.

    On a GPU that is known AHEAD calls later, because the host does not wait for the end of a call, but only for that of
    the one before.

    Args:
        device: the device that computes.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pending: deque[_Pending] = deque()

    def __call__(self, call: Callable[[], Tensor], *, rows: int, bucket: int) -> tuple[Tensor, TimedCall | None]:
        """Returns the output of a call, and a call whose time has become known, if any.

        That is this one, or on a GPU an earlier one.
        """
        if self._device.type != "cuda":
            begun = time.perf_counter()
            out = call()
            return out, TimedCall(rows, bucket, time.perf_counter() - begun)
        stream = torch.cuda.current_stream(self._device)  # the events' own would be that of another GPU
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        started.record(stream)
        out = call()
        ended.record(stream)
        self._pending.append(_Pending(rows, bucket, started, ended))
        return out, self._settled() if len(self._pending) > AHEAD else None

    def _settled(self) -> TimedCall:
        call = self._pending.popleft()
        call.ended.synchronize()
        return TimedCall(call.rows, call.bucket, call.started.elapsed_time(call.ended) / 1000)
