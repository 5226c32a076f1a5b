"""The ways to compute one network on a device: how long a full batch takes in each, and what it costs in exactness."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from model import load_checkpoint
from worker.calls import by_position
from worker.example_batch import example_batch
from worker.graphs import graphed

GEMM_SIDE = 4096
CALLS = 10


@dataclass(frozen=True)
class Way:
    """One way.

    Attributes:
        ms: of a call, the median.
        gemm_share: operations a second, beside those of a float32 matrix product on the same device.
        error: largest difference from eager float32, as a share of its largest output.
    """

    name: str
    ms: float
    gemm_share: float
    error: float


@torch.no_grad()
def measure_ways(folder: Path, device: torch.device, size: int) -> list[Way]:
    """Calls the network of a checkpoint in all ways that the device has; with batches of `size`."""
    checkpoint = load_checkpoint(folder)
    x, timesteps, told = example_batch(checkpoint.config, size)
    operations = _operations(lambda: checkpoint.denoiser.train()(x[:1], timesteps[:1], **_first(told))) * size
    checkpoint.denoiser.eval()
    batch = [each.to(device) for each in (x, timesteps, *told.values())]
    network = by_position(checkpoint.denoiser, device, checkpoint.config.told, {})
    peak = _gemm_rate(device)
    reference = network(*batch).float()
    found = []
    for name, call in _ways(checkpoint.denoiser, device, network):
        out = call(*batch).float()
        seconds = _seconds(partial(call, *batch), device)
        error = float((out - reference).abs().max() / reference.abs().max())
        found.append(Way(name, 1000 * seconds, operations / seconds / peak, error))
    return found


def _ways(
    denoiser: nn.Module, device: torch.device, network: Callable[..., Tensor]
) -> Iterator[tuple[str, Callable[..., Tensor]]]:
    """Yields each way when it is its turn, with the settings that it needs."""
    yield "float32", network
    on_gpu = device.type == "cuda"
    if on_gpu:
        yield "float32, CUDA graph", graphed(network, device)
        with _tf32():
            yield "TF32, CUDA graph", graphed(network, device)
    with torch.autocast(device.type, torch.bfloat16):
        yield ("bfloat16, CUDA graph", graphed(network, device)) if on_gpu else ("bfloat16", network)
    yield "float32, torch.compile", torch.compile(denoiser)


@contextmanager
def _tf32() -> Iterator[None]:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def _first(told: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: each[:1] for name, each in told.items()}


def _operations(call: Callable[[], Tensor]) -> int:
    """Counts the operations of a call; a multiplication with its addition is two."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


def _gemm_rate(device: torch.device) -> float:
    """Returns the operations a second of a large float32 matrix product."""
    a = torch.randn((GEMM_SIDE, GEMM_SIDE), device=device)
    return 2 * GEMM_SIDE**3 / _seconds(lambda: a @ a, device)


def _seconds(call: Callable[[], Tensor], device: torch.device) -> float:
    """Returns the median time of a call, after two that prepare."""
    found = []
    for number in range(CALLS + 2):
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        if number >= 2:
            found.append(time.perf_counter() - started)
    return statistics.median(found)
