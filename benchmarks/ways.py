"""The ways to compute one network on a device: the time of a full batch in each way, and its error."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from model import load_checkpoint
from worker.device.calls import Network, by_position
from worker.device.cuda_graphs import GraphedNetwork, GraphRecorder
from worker.device.example_batch import example_batch

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
    network = by_position(checkpoint.denoiser, device, checkpoint.config.told, {})
    peak = _gemm_rate(device)
    with _tf32(False):
        reference = network(*batch).float()
    found = []
    for name, prepare, context in _ways(network, device, batch):
        try:
            with context:
                call = prepare()
                out = call(*batch).float()
                seconds = _seconds(partial(call, *batch), device)
        except Exception as reason:  # as where torch.compile finds no compiler
            say(f"{name} is left out: {reason}")
            continue
        error = float((out - reference).abs().max() / reference.abs().max())
        found.append(Way(name, 1000 * seconds, operations / seconds / peak, error))
    torch._dynamo.reset()
    return found


def _ways(
    network: Network, device: torch.device, batch: Sequence[Tensor]
) -> Iterator[tuple[str, Callable[[], Network], AbstractContextManager[object]]]:
    """Yields each way's name, the function that makes its network, and the context in which it is made and called."""
    precisions: dict[str, Callable[[], AbstractContextManager[object]]] = {"float32": lambda: _tf32(False)}
    if device.type == "cuda":
        precisions["TF32"] = lambda: _tf32(True)
    precisions["bfloat16"] = lambda: torch.autocast(device.type, torch.bfloat16)
    for name, context in precisions.items():
        yield name, lambda: network, context()
        if device.type == "cuda":
            graphs = partial(GraphedNetwork, network, GraphRecorder(device), batch, [len(batch[0])])
            yield f"{name}, CUDA graph", graphs, context()
    yield "float32, torch.compile", lambda: torch.compile(network), _tf32(False)


@contextmanager
def _tf32(allowed: bool) -> Iterator[None]:
    backends: Sequence[Any] = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [each.allow_tf32 for each in backends]
    for each in backends:
        each.allow_tf32 = allowed
    try:
        yield
    finally:
        for each, was in zip(backends, before, strict=True):
            each.allow_tf32 = was


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
