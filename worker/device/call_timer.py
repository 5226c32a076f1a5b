"""The time of network calls, which a GPU computes while the host continues."""

import time
from collections.abc import Callable

import torch
from torch import Tensor


class CallTimer:
    """Makes the network calls of one model and finds how long each took.

    On a GPU the time is known one call later. While the GPU computes a call, the host prepares and queues the next one,
    and waits only for the call before. If the host were further ahead, a new job would only wait longer.

    Attributes:
        over: the rows, the size of the batch and the seconds of each call that is over, for whoever empties it.
    """

    def __init__(self, device: torch.device) -> None:
        self.over: list[tuple[int, int, float]] = []
        self._device = device
        self._pending: tuple[int, int, torch.cuda.Event, torch.cuda.Event] | None = None

    def __call__(self, call: Callable[[], Tensor], *, rows: int, bucket: int) -> Tensor:
        """Returns the output of a call. It is over then, or on a GPU the one before is."""
        if self._device.type != "cuda":
            begun = time.perf_counter()
            out = call()
            if self._device.type != "cpu":  # Apple's GPU, which has no events that can be asked for their time
                torch.accelerator.synchronize(self._device)
            self.over.append((rows, bucket, time.perf_counter() - begun))
            return out
        stream = torch.cuda.current_stream(self._device)  # the events' own would be that of another GPU
        started, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        started.record(stream)
        out = call()
        ended.record(stream)
        before, self._pending = self._pending, (rows, bucket, started, ended)
        if before is not None:
            rows, bucket, started, ended = before
            ended.synchronize()
            self.over.append((rows, bucket, started.elapsed_time(ended) / 1000))
        return out
