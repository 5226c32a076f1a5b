"""The ways to compute one network on a device: the time of a full batch in each way, and its error."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model import Checkpoint, load_checkpoint
from model.folders.config import Precision
from worker.device.calls import Network, by_position, example_batch
from worker.device.cuda_graphs import GraphedNetwork, GraphRecorder

from .report import say

GEMM_SIDE = 4096
CALLS = 10


@dataclass(frozen=True)
class Way:
    """One way.

    Attributes:
        ms: the median milliseconds of a call.
        gemm_share: operations a second, relative to those of a float32 matrix product on the same device.
        error: the largest difference from eager float32, as a share of its largest output.
    """

    name: str
    ms: float
    gemm_share: float
    error: float


@torch.inference_mode()
def measure_ways(folder: Path, device: torch.device, size: int) -> list[Way]:
    """Calls the network of a checkpoint in all ways that the device has, with batches of `size`."""
    checkpoint = load_checkpoint(folder)
    x, timesteps, told = example_batch(checkpoint.config, size)
    operations = size * _operations(checkpoint.denoiser, x[:1], timesteps[:1], {name: told[name][:1] for name in told})
    batch = [each.to(device) for each in (x, timesteps, *told.values())]
    checkpoint, peak = checkpoint.in_precision("float32"), _gemm_rate(device)
    reference = by_position(checkpoint, device)(*batch)
    found = []
    for name, prepare in _ways(checkpoint, device, batch):
        try:
            call = prepare()
            out = call(*batch)
            seconds = _seconds(partial(call, *batch), device)
        except Exception as reason:  # as where torch.compile finds no compiler
            say(f"{name} is left out: {reason}")
            continue
        error = float((out - reference).abs().max() / reference.abs().max())
        found.append(Way(name, 1000 * seconds, operations / seconds / peak, error))
    torch._dynamo.reset()
    return found


def _ways(
    checkpoint: Checkpoint, device: torch.device, batch: Sequence[Tensor]
) -> Iterator[tuple[str, Callable[[], Network]]]:
    """Yields each way's name, and what makes its network."""
    yield "float32, torch.compile", partial(torch.compile, by_position(checkpoint, device))
    formats: tuple[Precision, ...] = (
        ("float32", "tf32", "bfloat16") if device.type == "cuda" else ("float32", "bfloat16")
    )
    for precision in formats:  # bfloat16 last, because it changes the weights
        network = by_position(checkpoint.in_precision(precision), device)
        yield precision, partial(_itself, network)
        if device.type == "cuda":
            yield (
                f"{precision}, CUDA graph",
                partial(GraphedNetwork, network, GraphRecorder(device), batch, [len(batch[0])]),
            )


def _itself(network: Network) -> Network:
    return network


@torch.no_grad()
def _operations(denoiser: nn.Module, x: Tensor, timesteps: Tensor, told: Mapping[str, Tensor]) -> int:
    """Counts the operations of a call on a CPU; a multiplication with its addition is two."""
    denoiser.train()  # PyTorch's own layers, which the counter knows
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        denoiser(x, timesteps, **told)
    denoiser.eval()
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
