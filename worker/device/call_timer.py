"""The time of network calls, which a GPU computes while the host continues."""

import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


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

    def wait(self) -> TimedCall:
        self.ended.synchronize()
        return TimedCall(self.rows, self.bucket, self.started.elapsed_time(self.ended) / 1000)


class CallTimer:
    """Makes the network calls of one model and finds how long each took.

    On a GPU the time is known one call later. While the GPU computes a call, the host prepares and queues the next one,
    and waits only for the call before. If the host were further ahead, a new job would only wait longer.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pending: _Pending | None = None

    def __call__(self, call: Callable[[], Tensor], *, rows: int, bucket: int) -> tuple[Tensor, TimedCall | None]:
        """Returns the output of a call, and a call whose time has become known, if any.

        It is this call, or on a GPU the one before.
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
        before, self._pending = self._pending, _Pending(rows, bucket, started, ended)
        return out, None if before is None else before.wait()
